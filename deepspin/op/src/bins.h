// SPDX-License-Identifier: Apache-2.0
// A search through space: which sites, and which images of them, are near which.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>
#include <vector>

namespace deepspin {

using Vector = std::array<double, 3>;
using Turns = std::array<int64_t, 3>;

// Sites in a cell: lattice vectors along periodic directions, and unit vectors at right
// angles to these along open ones.
struct Space {
  int64_t nsites;
  const double* sites;
  const char* exists;             // of each site
  const double *cell, *inverse;   // (3, 3)
  const char* periodic;           // of each direction
  double cutoff;
};

struct Partner {
  int32_t site, shift[3];
};

// An integer at most `x`, such that three of them have a sum; 0 of NaN.
inline int32_t whole(double x) {
  constexpr double MOST = 1 << 29;
  return x < -MOST ? -(1 << 29) : x > MOST ? 1 << 29 : x == x ? int32_t(std::floor(x)) : 0;
}

// Sites, or images of them, that may be near those of a bin. A thread keeps its memory.
struct Surroundings {
  struct Image {
    Turns turns;
    Vector away;
  };
  std::vector<uint64_t> found;  // site and image
  std::vector<Image> images;
  std::vector<double> x[3];
  std::vector<int32_t> near;  // of these, to one site

  const Image& image(size_t k) const { return images[uint32_t(found[k])]; }
};

// The sites sorted into bins no narrower than the cutoff, so that a site's partners are
// in its bin and those around it; some of these are images of others, or of itself.
class Bins {
 public:
  explicit Bins(const Space& space) : s_(space), home_(3 * s_.nsites), place_(s_.nsites) {
    std::vector<double> at(3 * s_.nsites);  // in units of the vectors, in the cell
    Vector low, high, width;
    low.fill(std::numeric_limits<double>::infinity());
    high.fill(-low[0]);
    for (int64_t i = 0; i < s_.nsites; ++i)
      for (int d = 0; d < 3 && s_.exists[i]; ++d) {
        double& x = at[3 * i + d];
        for (int c = 0; c < 3; ++c) x += s_.sites[3 * i + c] * s_.inverse[3 * c + d];
        if (s_.periodic[d]) x -= home_[3 * i + d] = whole(x);
        low[d] = std::min(low[d], x);
        high[d] = std::max(high[d], x);
      }
    double images = 1.0;
    for (int d = 0; d < 3; ++d) {
      const double *v = s_.inverse + d, size = high[d] - low[d];
      const double height = 1.0 / std::sqrt(v[0] * v[0] + v[3] * v[3] + v[6] * v[6]);
      const double fit = (s_.periodic[d] ? height : size) / s_.cutoff;
      number_[d] = std::clamp<int64_t>(whole(fit), 1, MOST);
      reach_[d] = s_.periodic[d] ? std::max(1, whole(std::ceil(number_[d] / fit))) : 1;
      if (s_.periodic[d]) images *= 2.0 * double(reach_[d]) + 1.0;
      width[d] = (s_.periodic[d] ? 1.0 : size) / double(number_[d]);
    }
    if (images > 1 << 24) throw std::bad_alloc();  // of a cell as good as flat
    std::vector<std::pair<int64_t, int32_t>> sorted;
    for (int64_t i = 0; i < s_.nsites; ++i) {
      if (!s_.exists[i]) continue;
      int64_t key = 0;
      for (int d = 0; d < 3; ++d) {
        const int64_t bin = whole((at[3 * i + d] - low[d]) / width[d]);
        key = key * number_[d] + std::clamp<int64_t>(bin, 0, number_[d] - 1);
      }
      sorted.emplace_back(key, int32_t(i));
    }
    std::sort(sorted.begin(), sorted.end());
    for (const auto& [key, i] : sorted) {
      if (keys_.empty() || key != keys_.back()) keys_.push_back(key), first_.push_back(size());
      const int32_t* turns = &home_[3 * i];
      const Vector back = along(turns[0], turns[1], turns[2]);
      place_[i] = int32_t(size());
      sites_.push_back(i);
      points_.push_back({});
      for (int c = 0; c < 3; ++c) points_.back()[c] = s_.sites[3 * i + c] - back[c];
    }
    first_.push_back(size());
  }

  int64_t number() const { return int64_t(keys_.size()); }  // of bins with sites
  int64_t size() const { return int64_t(sites_.size()); }   // number of sites

  // How many partners the sites of a bin have, themselves included.
  void count(int64_t bin, Surroundings& s, int64_t* number) const {
    gather(bin, s);
    place(s);
    for (int64_t k = first_[bin]; k < first_[bin + 1]; ++k) number[sites_[k]] = choose(k, s);
  }

  // The partners, each site's from `start` on, sorted by site and shift; the largest
  // number of lattice vectors in a shift.
  int32_t list(int64_t bin, Surroundings& s, const int64_t* start, Partner* partners) const {
    int32_t largest = 0;
    gather(bin, s);
    std::sort(s.found.begin(), s.found.end());
    place(s);
    for (int64_t k = first_[bin]; k < first_[bin + 1]; ++k) {
      const int64_t i = sites_[k], n = choose(k, s);
      for (int64_t m = 0; m < n; ++m) {
        const int32_t at = s.near[m], j = int32_t(s.found[at] >> 32);
        Partner& to = partners[start[i] + m];
        to.site = j;
        for (int d = 0; d < 3; ++d) {
          to.shift[d] = int32_t(s.image(at).turns[d]) + home_[3 * i + d] - home_[3 * j + d];
          largest = std::max(largest, std::abs(to.shift[d]));
        }
      }
    }
    return largest;
  }

 private:
  static constexpr int64_t MOST = 1 << 20;  // bins in a direction: a key is of 64 bits

  Vector along(double a, double b, double c) const {
    Vector sum;
    for (int d = 0; d < 3; ++d) sum[d] = a * s_.cell[d] + b * s_.cell[3 + d] + c * s_.cell[6 + d];
    return sum;
  }

  // Candidates for the sites of a bin: what is near the smallest box around them. Images
  // come in order.
  void gather(int64_t bin, Surroundings& s) const {
    s.found.clear(), s.images.clear();
    Vector low = points_[first_[bin]], high = low;
    for (int64_t k = first_[bin]; k < first_[bin + 1]; ++k)
      for (int c = 0; c < 3; ++c) {
        low[c] = std::min(low[c], points_[k][c]);
        high[c] = std::max(high[c], points_[k][c]);
      }
    Turns begin, end, turns, at;
    for (int64_t d = 3, key = keys_[bin]; d-- > 0; key /= number_[d]) {
      begin[d] = key % number_[d] - reach_[d];
      end[d] = key % number_[d] + reach_[d] + 1;
      if (!s_.periodic[d])
        begin[d] = std::max<int64_t>(begin[d], 0), end[d] = std::min(end[d], number_[d]);
    }
    auto go = [&](int d, int64_t to) {  // to a bin, perhaps of an image
      turns[d] = to >= 0 ? to / number_[d] : -((number_[d] - 1 - to) / number_[d]);
      at[d] = to - turns[d] * number_[d];
    };
    for (int64_t a = begin[0]; a < end[0]; ++a)
      for (int64_t b = begin[1]; b < end[1]; ++b)
        for (int64_t c = begin[2]; c < end[2];) {
          go(0, a), go(1, b), go(2, c);
          const int64_t many = std::min(end[2] - c, number_[2] - at[2]);  // side by side
          const int64_t key = (at[0] * number_[1] + at[1]) * number_[2] + at[2];
          const auto from = std::lower_bound(keys_.begin(), keys_.end(), key);
          const auto to = std::lower_bound(from, keys_.end(), key + many);
          const Vector away = along(double(turns[0]), double(turns[1]), double(turns[2]));
          const size_t before = s.found.size();
          for (int64_t k = first_[from - keys_.begin()]; k < first_[to - keys_.begin()]; ++k) {
            double square = 0.0;
            for (int x = 0; x < 3; ++x) {
              const double p = points_[k][x] + away[x];
              const double apart = p < low[x] ? low[x] - p : p > high[x] ? p - high[x] : p - p;
              square += apart * apart;
            }
            if (!(square >= s_.cutoff * s_.cutoff))  // what is nowhere, too
              s.found.push_back(uint64_t(sites_[k]) << 32 | s.images.size());
          }
          if (s.found.size() > before) s.images.push_back({turns, away});
          c += many;
        }
  }

  void place(Surroundings& s) const {  // the candidates
    for (auto& x : s.x) x.resize(s.found.size());
    s.near.resize(s.found.size());
    for (size_t k = 0; k < s.found.size(); ++k)
      for (int c = 0; c < 3; ++c) s.x[c][k] = points_[place_[s.found[k] >> 32]][c] + s.image(k).away[c];
  }

  // How many candidates are near a site, which they are being in `near`.
  int64_t choose(int64_t site, Surroundings& s) const {
    constexpr int64_t MANY = 64;
    double square[MANY];
    const Vector& here = points_[site];
    const double end = s_.cutoff * s_.cutoff;
    int64_t found = 0;
    for (int64_t begin = 0, all = int64_t(s.found.size()); begin < all; begin += MANY) {
      const int64_t n = std::min(MANY, all - begin);
      const double *x = &s.x[0][begin], *y = &s.x[1][begin], *z = &s.x[2][begin];
      for (int64_t k = 0; k < n; ++k) {
        const double a = x[k] - here[0], b = y[k] - here[1], c = z[k] - here[2];
        square[k] = a * a + b * b + c * c;
      }
      for (int64_t k = 0; k < n; ++k) {
        s.near[found] = int32_t(begin + k);
        found += !(square[k] >= end);
      }
    }
    return found;
  }

  const Space& s_;
  Turns number_, reach_;
  std::vector<int32_t> home_;   // lattice vectors that each site is away from the cell
  std::vector<int32_t> place_;  // of each site in these
  std::vector<int32_t> sites_;
  std::vector<Vector> points_;  // in the cell
  std::vector<int64_t> keys_, first_;  // of bins with sites
};

}  // namespace deepspin
