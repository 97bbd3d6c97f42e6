#include "tests/mutants.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/error.h"
#include "machine/decoder.h"
#include "machine/launch.h"

namespace vgpu::test {

std::shared_ptr<Program> linked(const std::string& text) {
  const SymbolTable none{[](const std::string&) { return std::nullopt; }};
  return link_program(ptx::parse_module(text), "k", none);
}

std::vector<Mutant> mutants_of(const std::string& text) { return find_mutants(*linked(text)); }

bool found(const std::string& text, const Mutant* mutant, u32 threads, u64 seed,
           Asynchrony asynchrony) {
  Machine machine;
  machine.device = *find_device("h100");
  machine.seed = seed;
  machine.asynchrony = asynchrony;
  std::vector<u8> params;
  for (int i = 0; i < 2; ++i) {
    Allocation* a = machine.memory.allocate(1024, Allocation::Kind::kDevice, 0);
    machine.memory.set_defined(*a, a->base, a->size);
    params.resize(params.size() + 8);
    std::memcpy(&params[params.size() - 8], &a->base, 8);
  }
  const auto program = linked(text);
  if (mutant != nullptr) apply(*mutant, *program);
  LaunchConfig config;
  config.block[0] = threads;
  try {
    Launch(machine, *program, config, params).run();
  } catch (const Fault&) {
    EXPECT_NE(machine.findings.size(), 0u);
  }
  return machine.findings.size() != 0;
}

}  // namespace vgpu::test
