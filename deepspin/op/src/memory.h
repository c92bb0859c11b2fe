// SPDX-License-Identifier: Apache-2.0
// Memory: laid out once, measured and then given out; kept by threads from call to call.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

// Memory for one purpose after another: first measured, then given out.
class Arena {
 public:
  explicit Arena(char* base = nullptr) : base_(base) {}
  template <class X>
  X* get(size_t n) {
    X* result = base_ ? reinterpret_cast<X*>(base_ + used_) : nullptr;
    used_ += (n * sizeof(X) + 127) / 64 * 64;
    return result;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

// A thread's memory, kept from call to call.
class Scratch {
 public:
  ~Scratch() { std::free(memory_); }
  char* at_least(size_t bytes) {
    if (bytes > size_) {
      std::free(memory_);
      memory_ = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
      size_ = memory_ ? bytes : 0;
      if (!memory_) throw std::bad_alloc();
    }
    return memory_;
  }

 private:
  char* memory_ = nullptr;
  size_t size_ = 0;
};

using Buffer = std::unique_ptr<char, decltype(&std::free)>;

Buffer allocate(size_t bytes) {
  Buffer result(static_cast<char*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64)), &std::free);
  if (!result) throw std::bad_alloc();
  return result;
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
