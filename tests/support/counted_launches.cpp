#include "tests/support/counted_launches.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace qkv::test {

nlohmann::json counted_launches(const Case& row, const std::string& options) {
  const auto file =
      std::filesystem::temp_directory_path() / ("qkv-counts-" + std::to_string(getpid()) + ".json");
  const std::string command =
      "QKV_TEST_SEED=1 QKV_TEST_REPEATS=0 " QKV_VGPU_RUN " --device a100 --seed 1 --quiet " +
      options + " --counts " + file.string() +
      " -- " QKV_GPU_CONTRACT_TEST " --gtest_brief=1 '--gtest_filter=*Contract*/" + row.name +
      "' > /dev/null";
  nlohmann::json counts;
  if (std::system(command.c_str()) == 0) counts = nlohmann::json::parse(std::ifstream(file));
  std::filesystem::remove(file);
  return counts;
}

}  // namespace qkv::test
