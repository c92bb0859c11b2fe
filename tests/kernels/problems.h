// SPDX-License-Identifier: Apache-2.0
// Random problems for the kernels: numbers, nets and atoms, and what is made of results.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "frames.h"

namespace deepspin {

inline std::mt19937 generator(1);

inline double uniform(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(generator);
}

inline int integer(int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(generator);
}

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

// Results of all problems, in their order: written to a file, or compared with those in it.
class Record {
 public:
  void open(const char* mode, const char* path) {
    comparing_ = !std::strcmp(mode, "compare");
    if (!comparing_ && std::strcmp(mode, "write")) fail(std::string("no mode is called ") + mode);
    file_ = std::fopen(path, comparing_ ? "rb" : "wb");
    if (!file_) fail(std::string("cannot open ") + path);
  }

  // Differences may be so large beside the largest number of the array.
  template <class X>
  void add(const char* name, const X* values, size_t n, double tolerance) {
    if (!file_) return;
    if (!comparing_) {
      if (std::fwrite(values, sizeof(X), n, file_) != n) fail("cannot write all results");
      return;
    }
    std::vector<X> stored(n);
    if (std::fread(stored.data(), sizeof(X), n, file_) != n) fail("the file has fewer results");
    double largest = 0.0, gap = 0.0;
    for (size_t k = 0; k < n; ++k) {
      largest = std::max(largest, std::abs(double(stored[k])));
      const double here = std::abs(double(values[k]) - double(stored[k]));
      if (!std::isfinite(here)) fail(std::string(name) + " is not finite");
      gap = std::max(gap, here);
    }
    if (!(gap <= tolerance * largest))
      fail(std::string(name) + " differs from that in the file by " + std::to_string(gap) + " of " +
           std::to_string(largest));
    if (largest > 0.0) worst_ = std::max(worst_, gap / largest / tolerance);
  }

  // Closes the file; what to say of it.
  std::string close() {
    if (!file_) return "";
    if (comparing_ && std::fgetc(file_) != EOF) fail("the file has more results");
    if (std::fclose(file_)) fail("cannot write all results");
    char text[80];
    std::snprintf(text, sizeof text, ", %.2g of the tolerance from the file's", worst_);
    return comparing_ ? text : "";
  }

 private:
  std::FILE* file_ = nullptr;
  bool comparing_ = false;
  double worst_ = 0.0;
};

inline Record record;

// Everything a problem points to. Each array is a block of its own, of its exact size.
template <class T>
struct Arrays {
  std::vector<std::vector<double>> doubles;
  std::vector<std::vector<int32_t>> integers;
  std::vector<std::vector<T>> weights;

  double* numbers(size_t n, double low, double high) {
    doubles.emplace_back(n);
    for (double& x : doubles.back()) x = uniform(low, high);
    return doubles.back().data();
  }

  const T* weight(size_t n, double size) {
    weights.emplace_back(n);
    for (T& x : weights.back()) x = T(uniform(-size, size));
    return weights.back().data();
  }

  Net net(const std::vector<int>& widths, int n_in, bool fitting, bool dt) {
    Net result;
    int from = n_in;
    for (size_t l = 0; l < widths.size() + (fitting ? 1 : 0); ++l) {
      const bool last = l == widths.size();
      const int to = last ? 1 : widths[l];
      const bool residual = fitting ? !last && l > 0 && to == from : to == from || to == 2 * from;
      Layer layer{nullptr, nullptr, nullptr, from, to, residual};
      layer.matrix = weight(size_t(from) * to, 1.5 / std::sqrt(from));
      layer.bias = weight(to, 0.5);
      if (residual && dt) layer.idt = weight(to, 0.2);
      result.push_back(layer);
      from = to;
    }
    return result;
  }

  std::vector<int> widths(int least) {
    std::vector<int> result(integer(least, 3));
    for (int& w : result) w = integer(1, 19);
    return result;
  }

  // Frames with atoms, most of which are there.
  void atoms(Frames& p) {
    p.ntypes = integer(1, 3);
    p.nf = integer(1, 3);
    p.threads = 1;
    for (int t = 0; t < p.ntypes; ++t) {
      p.begin.push_back(p.nloc);
      p.natoms.push_back(integer(0, 3) ? integer(1, 20) : 0);
      p.nloc += p.natoms.back();
    }
    if (p.nloc == 0) p.nloc = p.natoms.back() = 1;
    const size_t centres = size_t(p.nf) * p.nloc;
    double* mask = numbers(centres, 0.0, 1.0);
    for (size_t k = 0; k < centres; ++k) mask[k] = mask[k] > 0.15;
    p.mask = mask;
  }

  // Neighbours among so many points, none its own, and images.
  void list(const Frames& p, int npoints, int width, std::vector<const int32_t*>& nlist,
            std::vector<const int32_t*>& shift) {
    integers.emplace_back(size_t(p.nf) * p.nloc * width);
    for (size_t k = 0; k < integers.back().size(); ++k) {
      const int i = int(k / width % p.nloc), j = integer(-1, npoints - 1);
      integers.back()[k] = j == i ? -1 : j;
    }
    nlist.push_back(integers.back().data());
    integers.emplace_back(3 * integers.back().size());
    for (int32_t& x : integers.back()) x = integer(-1, 1);
    shift.push_back(integers.back().data());
  }
};

template <class X>
bool same(const std::vector<X>& a, const std::vector<X>& b) {
  return a.size() == b.size() && (a.empty() || !std::memcmp(a.data(), b.data(), a.size() * sizeof(X)));
}

void invariant_problems();  // driver_invariant.cc: some of the scheme `invariant`

}  // namespace deepspin
