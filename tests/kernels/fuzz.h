// SPDX-License-Identifier: Apache-2.0
// Inputs of the fuzz targets: bytes, from which problems and their faults are drawn.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>

namespace fuzz {

// Bytes in turn, zeros after their end.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool done() const { return at_ == end_; }
  int next() { return done() ? 0 : *at_++; }
  int below(int n) { return n > 0 ? next() % n : 0; }

  // Numbers that are all alike to arithmetic, or are not.
  double number() {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    static const double odd[] = {0.0,    -0.0,    1.0,     -1.0,     NAN,  infinity, -infinity, 1e300,
                                 -1e300, 1e-300,  5e-324,  -1e-300,  1e15, -1e15,    1e8,       1e-8,
                                 3.0,    3.0e-16, 1.7e308, -1.7e308, 2e9,  1e-16,    1e150,     1e-160};
    const int k = next();
    return k < 24 ? odd[k] : (k - 140) / 32.0;
  }
  int64_t integer() {
    static const int64_t odd[] = {0,         1,         -1,        2,         3,       -2,
                                  INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 1 << 20, (1 << 20) + 1,
                                  1 << 12,   1 << 16,   1 << 30,   100};
    const int k = next();
    return k < 16 ? odd[k] : k % 16;
  }

 private:
  const uint8_t *at_, *end_;
};

// The numbers of a problem that has no fault, from a seed.
class Ordinary {
 public:
  explicit Ordinary(int seed) : state_(uint32_t(seed) * 2654435761u + 1) {}
  int below(int n) { return int(next() % uint32_t(n)); }
  double from(double low, double high) { return low + (high - low) * (next() / 4294967296.0); }

 private:
  uint32_t next() {
    state_ ^= state_ << 13, state_ ^= state_ >> 17, state_ ^= state_ << 5;
    return state_;
  }
  uint32_t state_;
};

[[noreturn]] inline void fail(const char* what, const char* more = "") {
  std::fprintf(stderr, "FAILED: %s %s\n", what, more);
  std::abort();
}

void operations(Bytes bytes);  // fuzz_operations.cc
void neighbors(Bytes bytes);   // fuzz_neighbors.cc

}  // namespace fuzz
