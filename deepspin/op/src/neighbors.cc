// SPDX-License-Identifier: Apache-2.0
// Neighbour lists: what deepspin/data/nlist.py does with vesin and numpy.
//
// Plain C functions for ctypes, without TensorFlow; deepspin/op/neighbors.py calls them.
// Both give the same lists, in the same order, however many threads there are.
#include <algorithm>
#include <limits>
#include <vector>

#include "bins.h"
#include "potential.h"

namespace {

using deepspin::Partner;

constexpr int64_t PART = 256;  // centres that a thread takes at once

template <class Work>
void in_parts(int threads, int64_t count, Work work, int64_t size = PART) {
  const int parts = int((count + size - 1) / size);
  deepspin::parallel(threads, parts,
                     [&](int part) { work(part, part * size, std::min(count, (part + 1) * size)); });
}

// Points within the cutoff of each centre: those that belong to its partners.
struct Search {
  int64_t ncentres, nblocks;
  const int64_t* start;  // of each site's partners
  const Partner* partners;
  const int64_t *first, *member;  // of each site's points, and these
  const int64_t* types;           // of points
  const double *points, *box;
  double rcut;

  template <class See>
  void visit(int64_t i, See see) const {
    const double* here = points + 3 * i;
    for (int64_t k = start[i]; k < start[i + 1]; ++k) {
      const auto& [site, shift] = partners[k];
      double image[3] = {};
      if (shift[0] | shift[1] | shift[2])
        for (int c = 0; c < 3; ++c)
          image[c] = shift[0] * box[c] + shift[1] * box[3 + c] + shift[2] * box[6 + c];
      for (int64_t m = first[site]; m < first[site + 1]; ++m) {
        const int64_t j = member[m];
        double square = 0.0;
        for (int c = 0; c < 3; ++c) {
          const double x = points[3 * j + c] + image[c] - here[c];
          square += x * x;
        }
        if (square < rcut * rcut && !(i == j && !shift[0] && !shift[1] && !shift[2]))
          see(j, shift, square);
      }
    }
  }
};

template <class Shift>
void list(int threads, const Search& s, const int32_t* count, int32_t* index, Shift* shifts) {
  std::vector<int64_t> start(s.ncentres * s.nblocks);
  int64_t total = 0;
  for (size_t k = 0; k < start.size(); ++k) start[k] = total, total += count[k];
  in_parts(threads, s.ncentres, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      s.visit(i, [&](int64_t j, const int32_t* shift, double) {
        const int64_t k = start[i * s.nblocks + s.types[j]]++;
        index[k] = int32_t(j);
        for (int c = 0; c < 3; ++c) shifts[3 * k + c] = Shift(shift[c]);
      });
  });
}

template <class Shift>
void pad(int threads, int64_t nrows, int64_t nblocks, const int64_t* centre, const int64_t* start,
         const int32_t* count, const int32_t* index, const Shift* shift, const int64_t* name,
         const int64_t* width, int32_t* const* nlist, int32_t* const* shifts) {
  in_parts(threads, nrows, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t e = 0; e < nblocks; ++e) {
        const int64_t block = centre[row] * nblocks + e;
        const int64_t from = centre[row] < 0 ? 0 : start[block];
        const int64_t n = centre[row] < 0 ? 0 : std::min<int64_t>(count[block], width[e]);
        int32_t* list = nlist[e] + row * width[e];
        int32_t* image = shifts[e] + row * width[e] * 3;
        for (int64_t k = 0; k < n; ++k) list[k] = int32_t(name[index[from + k]]);
        std::fill(list + n, list + width[e], -1);
        std::copy(shift + 3 * from, shift + 3 * (from + n), image);
        std::fill(image + 3 * n, image + 3 * width[e], 0);
      }
  });
}

}  // namespace

extern "C" {

// Partners of each site: sites and images of them within the cutoff, itself at least;
// sorted by site and shift. They go where `allocate` says, once it knows how many there
// are. Returns the largest number of lattice vectors in a shift, -1 without memory.
int deepspin_seek(int threads, const deepspin::Space* space,
                  int64_t* start,  // out: (nsites + 1,)
                  void* (*allocate)(int64_t)) try {
  const deepspin::Bins bins(*space);
  const int64_t nbins = bins.number(), size = PART * nbins / (bins.size() + 1) + 1;
  std::fill(start, start + space->nsites + 1, 1);
  start[0] = 0;
  in_parts(
      threads, nbins,
      [&](int, int64_t begin, int64_t end) {
        static thread_local deepspin::Surroundings around;
        for (int64_t bin = begin; bin < end; ++bin) bins.count(bin, around, start + 1);
      },
      size);
  for (int64_t i = 0; i < space->nsites; ++i) start[i + 1] += start[i];
  auto* partners = static_cast<Partner*>(allocate(start[space->nsites]));
  if (!partners) return -1;
  for (int64_t i = 0; i < space->nsites; ++i)
    if (!space->exists[i]) partners[start[i]] = {int32_t(i), {0, 0, 0}};
  std::vector<int32_t> largest((nbins + size - 1) / size);
  in_parts(
      threads, nbins,
      [&](int part, int64_t begin, int64_t end) {
        static thread_local deepspin::Surroundings around;
        for (int64_t bin = begin; bin < end; ++bin)
          largest[part] = std::max(largest[part], bins.list(bin, around, start, partners));
      },
      size);
  return largest.empty() ? 0 : *std::max_element(largest.begin(), largest.end());
} catch (const std::bad_alloc&) {
  return -1;
}

// Number of neighbours of each centre in each block, how crowded it is with them (the
// sum of (1 - r^2 / rcut^2)^4), and the square of the least distance of one; besides,
// that of all pairs, and that of two centres.
void deepspin_count(int threads, const Search* search,
                    int32_t* count,     // out: (ncentres, nblocks)
                    double* coordination,   // out: (ncentres, nblocks)
                    double* closest,    // out: (ncentres, nblocks)
                    double* nearest) {  // out: (2,)
  const Search& s = *search;
  const double infinity = std::numeric_limits<double>::infinity(), end = s.rcut * s.rcut;
  std::vector<double> least(2 * ((s.ncentres + PART - 1) / PART), infinity);
  in_parts(threads, s.ncentres, [&](int part, int64_t begin, int64_t stop) {
    double any = infinity, centres = infinity;
    for (int64_t i = begin; i < stop; ++i) {
      int32_t* found = count + i * s.nblocks;
      double *crowd = coordination + i * s.nblocks, *own = closest + i * s.nblocks;
      std::fill(found, found + s.nblocks, 0);
      std::fill(crowd, crowd + s.nblocks, 0.0);
      std::fill(own, own + s.nblocks, infinity);
      s.visit(i, [&](int64_t j, const int32_t*, double square) {
        const int64_t e = s.types[j];
        const double left = 1.0 - square / end, weight = left * left;
        ++found[e];
        crowd[e] += weight * weight;
        own[e] = std::min(own[e], square);
        any = std::min(any, square);
        if (j < s.ncentres) centres = std::min(centres, square);
      });
    }
    least[2 * part] = any, least[2 * part + 1] = centres;
  });
  nearest[0] = nearest[1] = infinity;
  for (size_t k = 0; k < least.size(); ++k) nearest[k % 2] = std::min(nearest[k % 2], least[k]);
}

// The neighbours, sorted by (centre, block, point, shift).
void deepspin_list(int threads, const Search* search, const int32_t* count, int shift_bytes,
                   int32_t* index,  // out: (npairs,)
                   void* shifts) {  // out: (npairs, 3)
  if (shift_bytes == 1)
    list(threads, *search, count, index, static_cast<int8_t*>(shifts));
  else
    list(threads, *search, count, index, static_cast<int32_t*>(shifts));
}

// Rows of rectangular arrays from the ragged list of the centre that each row is of.
void deepspin_pad(int threads, int64_t nrows, int64_t nblocks,
                  const int64_t* centre,  // of each row, -1 for none
                  const int64_t* start, const int32_t* count,  // (ncentres, nblocks)
                  const int32_t* index, const void* shift, int shift_bytes,
                  const int64_t* name,   // of each point in the result
                  const int64_t* width,  // (nblocks,)
                  int32_t* const* nlist, int32_t* const* shifts) {  // out, each by block
  if (shift_bytes == 1)
    pad(threads, nrows, nblocks, centre, start, count, index, static_cast<const int8_t*>(shift), name,
        width, nlist, shifts);
  else
    pad(threads, nrows, nblocks, centre, start, count, index, static_cast<const int32_t*>(shift), name,
        width, nlist, shifts);
}

}  // extern "C"
