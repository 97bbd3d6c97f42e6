// qkv_project: x W^T + bias against fp64. Runs where the linked place computes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "host/verify/projection.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

using verify::ProjectCase;

// Of this process's seed; a run damages nothing.
class Projection : public verify::Projection {
 public:
  explicit Projection(const ProjectCase& one, BuildOptions options = {})
      : verify::Projection(one, seeded(options)) {}

  qkv_status run(bool by_plan = false) {
    const qkv_status status = verify::Projection::run(by_plan);
    EXPECT_EQ(damage(), "");
    return status;
  }

 private:
  static BuildOptions seeded(BuildOptions options) {
    options.seed = test_seed();
    return options;
  }
};

bool on_cpu() { return place().device() == QKV_DEVICE_CPU; }

class Project : public testing::Test {
 protected:
  void SetUp() override {
    std::string reason = place().missing();
    if (reason.empty()) reason = missing_cublaslt();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

// The cases that the place's kernel takes.
std::vector<ProjectCase> cases_here() {
  std::vector<ProjectCase> out;
  for (const ProjectCase& one : verify::project_cases())
    if (on_cpu() || one.on_cuda()) out.push_back(one);
  return out;
}

ProjectCase large(qkv_type type) {
  return {.label = "large", .type = type, .batch = 3, .rows = 90, .in = 200, .heads = 4, .dim = 40};
}

constexpr qkv_type kTypes[] = {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16};

// Each case between guards and at the edge of memory, at once and by a plan, whatever unused memory
// holds: the same bits, within the tolerance.
TEST_F(Project, T1_T3_T12_T13_MatchesTheOracle) {
  for (const ProjectCase& one : cases_here()) {
    std::vector<std::byte> first;
    uint64_t turn = 0;
    for (const Fill fill : {Fill::kNaN, Fill::kZero, Fill::kMax}) {
      const auto poison = static_cast<unsigned char>(turn % 2 == 0 ? 0xa5 : 0xff);
      const Memory::Fit fit = turn % 2 == 0 ? Memory::Fit::kRoomy : Memory::Fit::kExact;
      Projection projection(one, {.fill = fill, .poison = poison, .fit = fit});
      ASSERT_EQ(projection.run(turn == 1), QKV_SUCCESS) << one.name() << ": " << qkv_last_error();
      if (first.empty()) {
        double worst = 0;
        ASSERT_EQ(project_faults(projection, &worst), "")
            << one.name() << ", QKV_TEST_SEED=" << test_seed();
        first = projection.output_bits();
      }
      ASSERT_EQ(projection.output_bits(), first) << one.name() << ", turn " << turn;
      ++turn;
    }
  }
}

TEST_F(Project, T13_SameBitsForEveryThreadCount) {
  if (!on_cpu()) GTEST_SKIP() << "threads are the CPU's; runs there (contract_test)";
  for (const qkv_type type : kTypes) {
    Projection one(large(type)), other(large(type));
    one.threads = 1;
    ASSERT_EQ(one.run(), QKV_SUCCESS) << qkv_last_error();
    for (const int threads : {2, 3, 7}) {
      place().set_threads(threads);
      other.threads = threads;
      ASSERT_EQ(other.run(), QKV_SUCCESS) << qkv_last_error();
      place().set_threads(0);
      EXPECT_EQ(other.output_bits(), one.output_bits()) << threads << " threads";
    }
  }
}

// NaN and infinities go where the sum takes them, and no further; a NaN of the bias stays in its
// column.
TEST_F(Project, T4_NonFiniteNumbersGoWhereTheyBelong) {
  for (const qkv_type type : kTypes) {
    ProjectCase one{.label = "", .type = type};
    Projection projection(one);
    projection.x.set(1, 0, 2, 7, std::nan(""));
    projection.x.set(0, 0, 3, 8, kInf);
    projection.weight.set(0, 0, 4, 9, -kInf);
    projection.bias.set(0, 0, 0, 20, std::nan(""));
    ASSERT_EQ(projection.run(), QKV_SUCCESS) << qkv_last_error();
    double worst = 0;
    EXPECT_EQ(project_faults(projection, &worst), "");
  }
}

// A weight of zeros but for a 1 in each row: y has elements of x, bit for bit, where the rows say.
TEST_F(Project, T2_PicksTheRightElements) {
  for (const qkv_type type : kTypes)
    for (const bool by_out : {true, false}) {
      ProjectCase one{.label = "", .type = type, .bias = false, .by_out = by_out};
      one.y = ProjectCase::Y::kHeadsFirst;
      Projection projection(one);
      projection.weight.fill(0);
      const auto picked = [&](int64_t out) { return (out * 29 + 3) % one.in; };
      for (int64_t out = 0; out < one.out(); ++out)
        projection.weight.set(0, 0, out, picked(out), 1);
      ASSERT_EQ(projection.run(), QKV_SUCCESS) << qkv_last_error();
      projection.y.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        ASSERT_EQ(projection.y.get(b, h, i, d), projection.x.get(b, 0, i, picked(h * one.dim + d)));
      });
    }
}

TEST_F(Project, NothingToProject) {
  for (const bool no_batch : {true, false}) {
    ProjectCase one{.label = ""};
    (no_batch ? one.batch : one.rows) = 0;
    Projection projection(one);
    EXPECT_EQ(projection.run(), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(projection.run(true), QKV_SUCCESS) << qkv_last_error();
  }
}

// Of one call and of a plan that several threads share.
TEST_F(Project, T14_ThreadsShareAPlan) {
  constexpr size_t kThreads = 4;
  Projection alone(large(QKV_TYPE_F16));
  ASSERT_EQ(alone.run(), QKV_SUCCESS) << qkv_last_error();
  qkv_project_desc desc = alone.desc();
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_project_plan_create(&desc, &plan), QKV_SUCCESS) << qkv_last_error();
  std::vector<std::unique_ptr<Projection>> own;
  for (size_t n = 0; n < kThreads; ++n) {
    own.push_back(std::make_unique<Projection>(large(QKV_TYPE_F16)));
    own.back()->upload();
  }
  std::vector<qkv_status> status(kThreads, QKV_INTERNAL);
  std::vector<std::thread> threads;
  for (size_t n = 0; n < kThreads; ++n)
    threads.emplace_back([&, n] {
      qkv_project_desc call = own[n]->desc();
      call.flags = QKV_FLAG_ALLOW_ALLOCATION;
      status[n] = qkv_project_plan_run(plan, &call, nullptr);
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t n = 0; n < kThreads; ++n) {
    own[n]->download();
    EXPECT_EQ(status[n], QKV_SUCCESS);
    EXPECT_EQ(own[n]->output_bits(), alone.output_bits());
  }
  qkv_plan_destroy(plan);
}

// Attention over q, k and v in the place's memory, of two heads of 32.
std::vector<std::byte> attend(const std::vector<qkv_tensor>& qkv) {
  Tensors memory({.fit = Memory::Fit::kExact});
  const Shape shape{2, 2, 17, 32};
  const Tensor o = memory.add("o", QKV_TYPE_F16, shape, strides_of(shape, kAsBshd), Use::kOutput);
  memory.upload();
  qkv_attention_desc desc;
  EXPECT_EQ(qkv_attention_desc_init(&desc, sizeof desc), QKV_SUCCESS);
  desc.device = place().device();
  desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  desc.q = qkv[0], desc.k = qkv[1], desc.v = qkv[2], desc.o = o.on_place();
  EXPECT_EQ(qkv_attention(&desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  memory.download();
  return o.bits();
}

// Attention reads packed Q, K and V as views of one projection: the same bits as from three tensors
// that hold them.
TEST_F(Project, FeedsAttentionWithoutACopy) {
  const ProjectCase packed{
      .label = "", .type = QKV_TYPE_F16, .batch = 2, .rows = 17, .in = 64, .heads = 6, .dim = 32};
  Projection all(packed);
  ASSERT_EQ(all.run(), QKV_SUCCESS) << qkv_last_error();
  Tensors memory({.fit = Memory::Fit::kExact});
  const Shape shape{2, 2, 17, 32};
  std::vector<qkv_tensor> views, copies;
  for (int64_t part = 0; part < 3; ++part) {  // two heads of each
    qkv_tensor view = all.y.on_place();
    view.shape[1] = 2;
    view.data = static_cast<std::byte*>(view.data) + part * 2 * view.stride[1] * 2;
    views.push_back(view);
    const Tensor copy =
        memory.add("copy", QKV_TYPE_F16, shape, strides_of(shape, kAsBhsd), Use::kInput);
    copy.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      copy.set(b, h, i, d, all.y.get(b, 2 * part + h, i, d));
    });
    copies.push_back(copy.on_place());
  }
  memory.upload();
  EXPECT_EQ(attend(views), attend(copies));
}

TEST_F(Project, SaysHowItRuns) {
  const Projection projection(large(QKV_TYPE_F32));
  const qkv_project_desc desc = projection.desc();
  qkv_query_result answer{};
  answer.struct_size = sizeof answer;
  ASSERT_EQ(qkv_project_query(&desc, &answer), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(answer.supported, 1);
  EXPECT_STREQ(answer.kernel, on_cpu() ? "cpu_project" : "cublaslt");
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_project_plan_create(&desc, &plan), QKV_SUCCESS) << qkv_last_error();
  size_t bytes = 0;
  EXPECT_EQ(qkv_plan_workspace_size(plan, &bytes), QKV_SUCCESS);
  EXPECT_EQ(bytes, answer.workspace_size);
  char text[2048];
  ASSERT_EQ(qkv_plan_print(plan, text, sizeof text, nullptr), QKV_SUCCESS);
  EXPECT_NE(std::string(text).find(answer.kernel), std::string::npos) << text;
  for (const char* says :
       {"batch 3, rows 90, in 200, out 160, f32", "weight [out, in], bias, heads 4 x 40"})
    EXPECT_NE(std::string(text).find(says), std::string::npos) << text;
  qkv_plan_destroy(plan);
}

// What no kernel takes is said by the query, and refused with its reason.
TEST_F(Project, SaysWhyNot) {
  if (on_cpu()) GTEST_SKIP() << "the CPU takes all; runs on the virtual GPU (vgpu_contract_*)";
  ProjectCase one{.label = ""};
  one.x = ProjectCase::X::kOneRow;
  Projection projection(one);
  EXPECT_EQ(projection.run(), QKV_UNSUPPORTED_KERNEL);
  EXPECT_NE(
      std::string(qkv_last_error()).find("cublaslt: rows of x are 0 elements apart and have 70"),
      std::string::npos)
      << qkv_last_error();
}

// A device without cuBLASLt: the loader's words, and what to install. The next call says the same.
TEST_F(Project, SaysWhatIsMissing) {
  const char* const named = std::getenv("QKV_CUBLASLT");
  if (on_cpu() || named == nullptr || std::string(named) != "/nowhere")
    GTEST_SKIP() << "runs as vgpu_project_without_cublaslt";
  Projection projection(ProjectCase{.label = ""});
  for (int turn = 0; turn < 2; ++turn) {
    EXPECT_EQ(projection.run(), QKV_UNSUPPORTED_KERNEL);
    const std::string says = qkv_last_error();
    for (const char* words : {"no kernel runs this problem; cublaslt: cuBLASLt", "/nowhere: cannot",
                              "install", "nvidia-cublas"})
      EXPECT_NE(says.find(words), std::string::npos) << says;
  }
}

TEST_F(Project, RefusesWithAReason) {
  Projection projection(ProjectCase{.label = ""});  // [2, 1, 5, 70] to [2, 3, 5, 11]
  using Desc = qkv_project_desc;
  const struct {
    qkv_status status;
    const char* says;
    void (*edit)(Desc& d);
  } rows[] = {
      {QKV_INVALID_STRUCT_SIZE, "call qkv_project_desc_init first",
       [](Desc& d) { d.struct_size = 8; }},
      {QKV_INVALID_VALUE, "not the mark that qkv_project_desc_init leaves",
       [](Desc& d) { d.reserved0 = 0; }},
      {QKV_INVALID_ENUM, "device is 7", [](Desc& d) { d.device = 7; }},
      {QKV_INVALID_ENUM, "flags is 2", [](Desc& d) { d.flags = 2; }},
      {QKV_INVALID_VALUE, "threads is -1", [](Desc& d) { d.threads = -1; }},
      {QKV_INVALID_NULL, "x is absent", [](Desc& d) { d.x = {}; }},
      {QKV_INVALID_NULL, "weight is absent", [](Desc& d) { d.weight = {}; }},
      {QKV_INVALID_NULL, "y is absent", [](Desc& d) { d.y = {}; }},
      {QKV_INVALID_NULL, "weight.data is null", [](Desc& d) { d.weight.data = nullptr; }},
      {QKV_INVALID_TYPE, "x.type is i32; allowed: f32, f16, bf16",
       [](Desc& d) { d.x.type = QKV_TYPE_I32; }},
      {QKV_INVALID_TYPE, "weight.type is f16; allowed: f32",
       [](Desc& d) { d.weight.type = QKV_TYPE_F16; }},
      {QKV_INVALID_TYPE, "bias.type is f16; allowed: f32",
       [](Desc& d) { d.bias.type = QKV_TYPE_F16; }},
      {QKV_INVALID_SHAPE, "x.shape[1] (heads) is 2; it must be 1",
       [](Desc& d) { d.x.shape[1] = 2; }},
      {QKV_INVALID_SHAPE, "x.shape[3] (in) is 0; at least 1 is needed",
       [](Desc& d) { d.x.shape[3] = 0; }},
      {QKV_INVALID_SHAPE, "y.shape[1] (heads) is 0; at least 1 is needed",
       [](Desc& d) { d.y.shape[1] = 0; }},
      {QKV_INVALID_SHAPE, "y.shape[3] (dim) is 0; at least 1 is needed",
       [](Desc& d) { d.y.shape[3] = 0; }},
      {QKV_INVALID_SHAPE, "weight.shape[2] (out) is 32; it must be heads x dim of y, 3 x 11",
       [](Desc& d) { d.weight.shape[2] = 32; }},
      {QKV_INVALID_SHAPE, "weight.shape[3] (in) is 69; it must be 70",
       [](Desc& d) { d.weight.shape[3] = 69; }},
      {QKV_INVALID_SHAPE, "bias.shape[3] (out) is 11; it must be 33",
       [](Desc& d) { d.bias.shape[3] = 11; }},
      {QKV_INVALID_SHAPE, "y.shape[2] (seq) is 4; it must be 5", [](Desc& d) { d.y.shape[2] = 4; }},
      {QKV_INVALID_STRIDE, "x.stride[3] is 2; the innermost stride must be 1",
       [](Desc& d) { d.x.stride[3] = 2; }},
      {QKV_INVALID_STRIDE, "weight.stride is 140 over out and 2 over in; one of the two must be 1",
       [](Desc& d) { d.weight.stride[2] = 140, d.weight.stride[3] = 2; }},
      {QKV_INVALID_STRIDE, "elements of an output must not overlap",
       [](Desc& d) { d.y.stride[2] = 0; }},
      // The innermost stride must be 1: another one that is 1 as well is the fault.
      {QKV_INVALID_STRIDE, "y.stride[1] is 1; elements of an output must not overlap, at least 11",
       [](Desc& d) { d.y.stride[1] = 1; }},
      {QKV_INVALID_STRIDE, "negative strides are not allowed",
       [](Desc& d) { d.x.stride[2] = -70; }},
      {QKV_INVALID_OVERLAP, "y", [](Desc& d) { d.y.data = d.x.data; }},
      {QKV_INVALID_NULL, "workspace is null, but workspace_size is 8",
       [](Desc& d) { d.workspace_size = 8; }},
  };
  for (const auto& row : rows) {
    Desc desc = projection.desc();
    row.edit(desc);
    EXPECT_EQ(qkv_project(&desc, nullptr), row.status) << row.says;
    EXPECT_NE(std::string(qkv_last_error()).find(row.says), std::string::npos) << qkv_last_error();
  }
  EXPECT_EQ(qkv_project(nullptr, nullptr), QKV_INVALID_NULL);
  EXPECT_EQ(qkv_project_desc_init(nullptr, 8), QKV_INVALID_NULL);
}

// A plan runs problems of its own kind alone.
TEST_F(Project, PlansKnowTheirKind) {
  Projection projection(ProjectCase{.label = ""}), other(large(QKV_TYPE_F32));
  qkv_project_desc desc = projection.desc();
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_project_plan_create(&desc, &plan), QKV_SUCCESS) << qkv_last_error();
  desc = other.desc();
  EXPECT_EQ(qkv_project_plan_run(plan, &desc, nullptr), QKV_INVALID_PLAN);
  Tensors memory({.fit = Memory::Fit::kExact});
  const Shape shape{1, 1, 2, 8};
  qkv_attention_desc attention;
  ASSERT_EQ(qkv_attention_desc_init(&attention, sizeof attention), QKV_SUCCESS);
  attention.device = place().device();
  for (qkv_tensor* tensor : {&attention.q, &attention.k, &attention.v, &attention.o})
    *tensor =
        memory.add("t", QKV_TYPE_F32, shape, strides_of(shape, kAsBshd), Use::kInput).on_place();
  EXPECT_EQ(qkv_plan_run(plan, &attention, nullptr), QKV_INVALID_PLAN);
  EXPECT_NE(std::string(qkv_last_error()).find("the plan is of project, the call of attention"),
            std::string::npos)
      << qkv_last_error();
  qkv_plan_destroy(plan);
}

// Too little workspace, and one that shares memory with a tensor.
TEST_F(Project, KeepsToItsWorkspace) {
  Projection projection(large(QKV_TYPE_F32));
  projection.upload();
  qkv_project_desc desc = projection.desc();
  EXPECT_EQ(qkv_project(&desc, nullptr), QKV_RESOURCE_WORKSPACE);
  EXPECT_NE(std::string(qkv_last_error()).find("workspace is null; this plan needs"),
            std::string::npos)
      << qkv_last_error();
}

}  // namespace
}  // namespace qkv::test
