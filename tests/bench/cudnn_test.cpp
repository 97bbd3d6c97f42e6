// The benchmark's cuDNN contender against a stand-in for libcudnn, which computes the graph that it
// is told; and, where a libcudnn is installed, that cuDNN itself recognises that graph.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/baselines/cudnn_attention.h"
#include "bench/check.h"
#include "bench/spec.h"
#include "bench/tensors.h"

namespace qkv::test {
namespace {

using bench::Cudnn;
using bench::CudnnAttention;
using bench::CudnnProblem;
using bench::Spec;
using bench::Tensors;

const Cudnn& stand_in() {
  static const Cudnn it({QKV_CUDNN_STAND_IN});
  return it;
}

size_t living() {
  void* library = dlopen(QKV_CUDNN_STAND_IN, RTLD_NOW | RTLD_NOLOAD);
  return reinterpret_cast<size_t (*)()>(dlsym(library, "cudnn_stand_in_living"))();
}

// What the stand-in is asked for, for as long as this lives.
struct Asked {
  explicit Asked(const char* what) { setenv("QKV_CUDNN_STAND_IN", what, 1); }
  ~Asked() { unsetenv("QKV_CUDNN_STAND_IN"); }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;
};

// What is wrong with cuDNN's result of a problem, described as `change` leaves it.
template <class Change>
std::string judged(const std::string& line, const Change& change) {
  Spec spec = bench::parse(line);
  spec.device = QKV_DEVICE_CPU;  // where the stand-in's memory is
  const Tensors tensors(spec);
  CudnnProblem problem = bench::cudnn_problem(spec, tensors.problem().scale);
  change(&problem);
  CudnnAttention attention(stand_in(), problem);
  const bench::Buffer workspace(attention.workspace_bytes());
  int stream = 0;
  attention.run(tensors[bench::kQ].data(), tensors[bench::kK].data(), tensors[bench::kV].data(),
                tensors[bench::kO].data(), workspace.data(), &stream);
  return bench::Reference(tensors.problem()).check(true);
}

std::string judged(const std::string& line) {
  return judged(line, [](CudnnProblem*) {});
}

constexpr const char* kProblems[] = {
    "fwd:cuda:bf16:d16:b2:h3:sq20:skv37",
    "fwd:cuda:f16:d16:b2:h3:sq20:skv37",
    "fwd:cuda:bf16:d16:dv24:b2:hq6:hkv2:s20",
    "fwd:cuda:bf16:d16:b1:h2:s40:causal",
    "fwd:cuda:bf16:d16:b1:h2:sq20:skv37:causal",
    "fwd:cuda:bf16:d16:b1:h2:sq20:skv37:causal:top-left",
    "fwd:cuda:bf16:d16:b1:h2:sq20:skv37:causal:offset=5",
    "fwd:cuda:bf16:d16:b1:h2:sq20:skv37:right=3",
    "fwd:cuda:bf16:d16:b1:h2:s40:causal:left=6",
    "fwd:cuda:f16:d16:b1:h2:sq20:skv37:left=6:right=3",
    "fwd:cuda:bf16:d16:b1:h2:sq20:skv37:left=9:top-left",
    "fwd:cuda:bf16:d16:b2:hq4:hkv2:sq1:skv64:causal",
    "fwd:cuda:bf16:d16:b1:h2:s20:scale=0.7",
    "fwd:cuda:bf16:d16:b2:h4:sq20:skv30:q=3840.16.192:k=0.0.16:v=0.16.64:o=1280.320.16",
    "fwd:cuda:bf16:d16:b1:h2:s20:left=1000:right=2000",
    "fwd:cuda:bf16:d16:b1:h2:s20:causal:offset=1152921504606846976",  // hides nothing
};

TEST(CudnnGraph, SaysTheProblem) {
  ASSERT_EQ(stand_in().missing(), "");
  for (const std::string line : kProblems) {
    EXPECT_EQ(bench::cudnn_declines(bench::parse(line)), "") << line;
    EXPECT_EQ(judged(line), "") << line;
  }
  EXPECT_EQ(living(), 0u);
}

// The same check finds every way of saying another problem.
TEST(CudnnGraph, AnotherProblemIsAnotherResult) {
  const std::string band = "fwd:cuda:bf16:d16:b2:h3:sq20:skv37:left=6:right=3";
  const auto wrong = [&](const char* what, const auto& change) {
    EXPECT_NE(judged(band, change), "") << what;
  };
  wrong("scale", [](CudnnProblem* p) { p->scale *= 1.2f; });
  wrong("one key more at the left", [](CudnnProblem* p) { ++*p->left; });
  wrong("one key less at the left", [](CudnnProblem* p) { --*p->left; });
  wrong("one key more at the right", [](CudnnProblem* p) { ++*p->right; });
  wrong("one key less at the right", [](CudnnProblem* p) { --*p->right; });
  wrong("the other corner", [](CudnnProblem* p) { p->offset = 0; });
  wrong("no window", [](CudnnProblem* p) { p->left.reset(), p->right.reset(); });
  wrong("another head's keys", [](CudnnProblem* p) { p->k.stride[1] = 0; });
  wrong("another head's values", [](CudnnProblem* p) { p->v.stride[1] = 0; });
  wrong("another row's queries", [](CudnnProblem* p) { p->q.stride[2] = 0; });
  wrong("one row of output", [](CudnnProblem* p) { p->o.stride[2] = 0; });
  wrong("fewer keys", [](CudnnProblem* p) { --p->k.shape[2], --p->v.shape[2]; });
  wrong("fp16 for bf16", [](CudnnProblem* p) { p->type = QKV_TYPE_F16; });
}

// What does not fit together is refused with cuDNN's words.
TEST(CudnnGraph, ShapesThatDoNotFitAreRefused) {
  const auto refused = [](const auto& change) {
    try {
      (void)judged("fwd:cuda:bf16:d16:b2:h3:sq20:skv37", change);
      ADD_FAILURE() << "taken";
    } catch (const std::runtime_error& e) {
      EXPECT_NE(std::string(e.what()).find("CUDNN_STATUS_BAD_PARAM (shapes of a product)"),
                std::string::npos)
          << e.what();
    }
  };
  refused([](CudnnProblem* p) { --p->k.shape[3]; });
  refused([](CudnnProblem* p) { --p->k.shape[2]; });
  refused([](CudnnProblem* p) { --p->o.shape[2]; });
  EXPECT_EQ(living(), 0u);
}

TEST(CudnnGraph, DeclinesWhatItCannotSay) {
  const auto expect = [](const std::string& line, const std::string& reason) {
    EXPECT_EQ(bench::cudnn_declines(bench::parse(line)), reason) << line;
  };
  expect("fwd:cuda:f32", "cannot do f32");
  expect("fwd:cuda:hard:additive:split=64",
         "cannot do additive scores, hard selection, a fixed size of splits");
  expect("fwd:cuda:softcap=30:lse:alibi", "cannot do softcap, alibi, lse");
  expect("fwd:cuda:causal:sq40:skv20", "cannot do queries that see no key");
  expect("fwd:cuda:top-left:left=3:sq40:skv20", "cannot do queries that see no key");
}

TEST(Cudnn, SaysWhereItIsNot) {
  const Cudnn none({"/nowhere/libcudnn.so.9"});
  EXPECT_NE(none.missing().find("libcudnn not found (QKV_CUDNN names it): /nowhere/libcudnn.so.9"),
            std::string::npos)
      << none.missing();
  EXPECT_EQ(none.version(), "");
  const CudnnProblem problem = bench::cudnn_problem(bench::parse("fwd:cuda:d16:s20"), 1);
  EXPECT_THROW(CudnnAttention(none, problem), std::runtime_error);
  EXPECT_NE(Cudnn(std::vector<std::string>{}).missing(), "");
  EXPECT_NE(Cudnn({"libm.so.6"}).missing().find("libcudnn has no cudnn"), std::string::npos);
}

TEST(Cudnn, SaysThatThereIsNoDeviceOrEngine) {
  const CudnnProblem problem = bench::cudnn_problem(bench::parse("fwd:cuda:d16:s20"), 1);
  const auto reason = [&](const char* asked) -> std::string {
    const Asked now(asked);
    try {
      const CudnnAttention attention(stand_in(), problem);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(reason("no device"),
            "cuDNN: cudnnCreate: CUDNN_STATUS_NOT_INITIALIZED (there is no device)");
  EXPECT_EQ(reason("no engine"), "cuDNN has no plan: no engine");
  EXPECT_EQ(reason("nothing"), "");
  EXPECT_EQ(stand_in().version(), "9.8.7");
  EXPECT_EQ(living(), 0u);
}

// An H100's, as cuDNN writes them: enough for it to say which engines it would take there.
constexpr const char* kH100 =
    R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)"
    R"("multiProcessorCount":132,"smCountOrigin":0,"smClockRateKHz":1980000,)"
    R"("memClockRateKHz":2619000,"l2CacheSize":52428800,"warpSize":32,)"
    R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,)"
    R"("oversizedSharedMemoryPerBlock":0,"reservedSharedMemoryPerBlock":1024,)"
    R"("maxRegistersPerSM":65536,"pciDeviceId":0,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,)"
    R"("maxThreadsPerSM":2048,"isTccDriver":0,"supportCoopLaunch":1,"deviceVer":900,)"
    R"("driverVer":13000,"totalGlobalMem":85899345920,"deviceName":"NVIDIA H100 80GB HBM3",)"
    R"("cudaDeviceId":0})";

TEST(Cudnn, RecognisesTheGraphAsAttention) {
  // Cudnn's other tests hold the graph against a stand-in on every machine; this one asks cuDNN
  // itself and runs where it is installed, a package of Python's included. Its engines ask for the
  // driver's library, of which the toolkit has a stub.
  constexpr const char* kWhere =
      "; runs where libcudnn is installed, the stand-in's tests run here";
  if (dlopen("libcuda.so.1", RTLD_NOW) == nullptr && dlopen(QKV_CUDA_STUB, RTLD_NOW) == nullptr)
    GTEST_SKIP() << "libcuda.so.1 is not here: " << dlerror() << kWhere;
  const Cudnn& library = Cudnn::instance();
  if (!library.missing().empty()) GTEST_SKIP() << library.missing().substr(0, 200) << kWhere;
  const auto accepts = [&](const std::string& line) {
    return bench::cudnn_accepts(library, bench::cudnn_problem(bench::parse(line), 0.1f), kH100);
  };
  if (const std::string why = accepts("fwd:cuda:bf16:d128:s512");
      why.find("propert") != std::string::npos)
    GTEST_SKIP() << "cuDNN " << library.version() << " takes no device that is not here: " << why
                 << kWhere;
  for (const char* line :
       {"fwd:cuda:bf16:d128:s512", "fwd:cuda:f16:d64:causal:b2:hq8:hkv2:s512",
        "fwd:cuda:bf16:d128:causal:sq128:skv640", "fwd:cuda:bf16:d128:causal:left=127:s1024",
        "fwd:cuda:bf16:d128:hq32:hkv8:sq1:skv4096"})
    EXPECT_EQ(accepts(line), "") << line << ", cuDNN " << library.version();
}

}  // namespace
}  // namespace qkv::test
