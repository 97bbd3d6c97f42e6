// Tensors in host memory: the CPU backend computes.
#include <omp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include "host/verify/place.h"

namespace qkv::verify {
namespace {

class HostPlace final : public Place {
 public:
  std::string missing() const override { return {}; }
  qkv_device device() const override { return QKV_DEVICE_CPU; }

  void* allocate(size_t bytes) override {
    void* memory = std::aligned_alloc(256, (bytes + 256) / 256 * 256);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }

  // The block ends where a page without access begins; a page without access precedes it too.
  void* allocate_exact(size_t bytes) override {
    const size_t inner = (bytes + kPage - 1) / kPage * kPage;
    const size_t whole = inner + 2 * kPage;
    void* pages = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    auto* first = static_cast<std::byte*>(pages) + kPage;
    if (inner > 0 && mprotect(first, inner, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    void* memory = first + (inner - bytes);
    mappings_[memory] = {pages, whole};
    return memory;
  }

  void release(void* memory) override {
    const auto mapping = mappings_.find(memory);
    if (mapping == mappings_.end()) return std::free(memory);
    munmap(mapping->second.pages, mapping->second.bytes);
    mappings_.erase(mapping);
  }

  void upload(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void download(void* to, const void* from, size_t bytes) override { upload(to, from, bytes); }

  void set_threads(int threads) override {
    omp_set_num_threads(threads > 0 ? threads : default_threads_);
  }

 private:
  struct Mapping {
    void* pages;
    size_t bytes;
  };
  const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const int default_threads_ = omp_get_max_threads();
  std::map<void*, Mapping> mappings_;
};

}  // namespace

Place& host_place() {
  static HostPlace instance;
  return instance;
}

}  // namespace qkv::verify
