// Mutants of a kernel `k` on the virtual H100.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "machine/ir.h"
#include "mutate/mutate.h"

namespace vgpu::test {

std::shared_ptr<Program> linked(const std::string& text);
std::vector<Mutant> mutants_of(const std::string& text);

// Whether something is found about the kernel, or about a mutant of it, in one block of `threads`.
// It has two arguments, buffers of 1024 defined bytes.
bool found(const std::string& text, const Mutant* mutant, u32 threads, u64 seed,
           Asynchrony asynchrony = Asynchrony::kBySeed);

}  // namespace vgpu::test
