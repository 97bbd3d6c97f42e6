// Writes valid descriptors of every sort into a folder, for fuzz_descriptor to start from. They
// depend on the layout of the struct, hence are made by the build, not kept.
//   make_descriptor_seeds FOLDER
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/full_problem.h"

int main(int argc, char** argv) {
  using qkv::test::FullProblem;
  if (argc != 2) return 2;
  const std::filesystem::path folder(argv[1]);
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, auto&& edit) {
    FullProblem f;
    edit(f);
    std::ofstream(folder / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(&f.desc), sizeof f.desc);
  };
  write("plain", [](FullProblem&) {});
  write("everything", [](FullProblem& f) { f.use_everything(); });
  write("causal", [](FullProblem& f) { f.desc.causal = 1; });
  write("window", [](FullProblem& f) {
    f.desc.window_left = 2, f.desc.window_right = 1, f.desc.alignment = QKV_ALIGN_TOP_LEFT;
  });
  write("explicit", [](FullProblem& f) {
    f.desc.causal = 1, f.desc.alignment = QKV_ALIGN_EXPLICIT, f.desc.offset = -1;
  });
  write("weights", [](FullProblem& f) { f.desc.weights = f.weights, f.desc.softcap = 2; });
  write("lengths", [](FullProblem& f) { f.desc.kv_lengths = f.kv_lengths; });
  write("older", [](FullProblem& f) { f.as_0_1_0(), f.desc.scale = 2, f.desc.offset = 3; });
  write("threads", [](FullProblem& f) { f.desc.threads = 1; });
  write("bf16", [](FullProblem& f) {
    for (qkv_tensor* t : {&f.desc.q, &f.desc.k, &f.desc.v, &f.desc.o}) t->type = QKV_TYPE_BF16;
  });
  write("broadcast", [](FullProblem& f) {
    f.desc.k.stride[0] = f.desc.v.stride[0] = 0;
    f.desc.mask = f.mask, f.desc.mask.shape[0] = f.desc.mask.shape[2] = 1;
  });
  return 0;
}
