// SPDX-License-Identifier: Apache-2.0
// Neighbour lists of few sites, of nothing, of points that are nowhere: those of a plain
// search over all images, in order.
#include <algorithm>
#include <array>
#include <tuple>
#include <vector>

#include "bins.h"
#include "fuzz.h"

namespace fuzz {
namespace {

using deepspin::Partner;
using deepspin::Space;

// as in neighbors.cc
struct Search {
  int64_t ncentres, nblocks;
  const int64_t* start;
  const Partner* partners;
  const int64_t *first, *member, *types;
  const double *points, *box;
  double rcut;
};

}  // namespace

extern "C" {
int deepspin_seek(int, const Space*, int64_t*, void* (*)(int64_t));
void deepspin_count(int, const Search*, int32_t*, double*, double*, double*);
void deepspin_list(int, const Search*, const int32_t*, int, int32_t*, void*);
void deepspin_pad(int, int64_t, int64_t, const int64_t*, const int64_t*, const int32_t*, const int32_t*,
                  const void*, int, const int64_t*, const int64_t*, int32_t* const*, int32_t* const*);
}

namespace {

struct Neighbor {
  int64_t centre, block, point;
  std::array<int32_t, 3> shift;
  double square;
  bool operator<(const Neighbor& other) const {
    return std::tie(centre, block, point, shift) <
           std::tie(other.centre, other.block, other.point, other.shift);
  }
};

std::vector<Partner> partners;  // where `deepspin_seek` puts them
bool full;                      // no memory for them

void* allocate(int64_t number) {
  partners.resize(size_t(number));
  return full ? nullptr : partners.data();
}

// Sites in a cell and the points that they stand for.
struct Frame {
  int threads;
  int64_t nsites, nblocks;
  bool plain = true;  // nothing in it is odd
  int largest;        // component of a shift
  std::vector<char> exists, periodic;
  std::vector<int64_t> start, first, member, types;
  std::vector<double> points, cell, inverse, box;
  double cutoff, rcut;

  explicit Frame(Bytes& in) {
    threads = 1 + in.below(3);
    nsites = in.below(9);
    nblocks = 1 + in.below(3);
    Ordinary ordinary(in.next());
    for (int64_t s = 0; s < nsites; ++s) exists.push_back(char(ordinary.below(5) > 0));
    const int far = in.below(3) ? 3 : 60;
    for (int64_t k = 0; k < 3 * nsites; ++k) points.push_back(ordinary.from(-far, far));
    // a skewed cell; along an open direction the vector is at right angles to the others
    const double lengths[] = {ordinary.from(0.8, 9.0), ordinary.from(0.8, 9.0),
                              ordinary.from(0.8, 9.0)};
    const int open = in.below(8);
    for (int d = 0; d < 3; ++d) {
      periodic.push_back(char(!(open & (1 << d))));
      for (int c = 0; c < 3; ++c) cell.push_back(c == d ? periodic[size_t(d)] ? lengths[d] : 1.0 : 0.0);
    }
    if (!open) cell[3] = ordinary.from(-1.0, 1.0), cell[6] = ordinary.from(-1.0, 1.0);
    const double x = cell[0], y = cell[4], z = cell[8];
    inverse = {1.0 / x, 0.0, 0.0, -cell[3] / (x * y), 1.0 / y, 0.0, -cell[6] / (x * z), 0.0, 1.0 / z};
    for (int k = 0; k < 9; ++k) box.push_back(periodic[size_t(k / 3)] ? cell[size_t(k)] : 0.0);
    cutoff = 2.5;
    for (int k = in.below(4); k > 0; --k) {
      const int at = in.next();
      const double value = in.number();
      if (nsites) plain = false, points[size_t(at) % points.size()] = value;
    }
    if (in.below(8) == 0) {
      static const double odd[] = {0.0, -1.0, 1e-300, 1e300, NAN, INFINITY};
      plain = false, cutoff = odd[in.below(6)];
    }
    rcut = in.below(3) ? 2.4 : in.number();
    seek(in);
    // a site's own point, and perhaps another one behind those of all sites
    first.push_back(0);
    int64_t npoints = nsites;
    for (int64_t s = 0; s < nsites; ++s) {
      member.push_back(s);
      if (ordinary.below(2)) member.push_back(npoints++);
      first.push_back(int64_t(member.size()));
    }
    for (int64_t k = 0; k < npoints; ++k) types.push_back(ordinary.below(int(nblocks)));
    while (int64_t(points.size()) < 3 * npoints) points.push_back(ordinary.from(0.0, 3.0));
  }

  void seek(Bytes& in) {
    start.assign(size_t(nsites + 1), 0);
    const Space space{nsites,         points.data(),   exists.data(), cell.data(),
                      inverse.data(), periodic.data(), cutoff};
    full = in.below(16) == 0;
    largest = deepspin_seek(threads, &space, start.data(), allocate);
    if (full && largest != -1) fail("no memory is no error");
    full = false;
    largest = deepspin_seek(threads, &space, start.data(), allocate);
    if (largest < 0) {  // more images than there can be
      if (plain) fail("no partners");
      partners.clear();
      for (int64_t s = 0; s <= nsites; ++s) start[size_t(s)] = 0;
      return;
    }
    if (start[0] != 0 || start.back() != int64_t(partners.size())) fail("partners are missing");
    for (int64_t s = 0; s < nsites; ++s) check_partners(s);
  }

  // Ascending, of sites that there are, itself among them; those of all images.
  void check_partners(int64_t s) const {
    const std::vector<Partner> own(partners.begin() + start[size_t(s)],
                                   partners.begin() + start[size_t(s) + 1]);
    auto key = [](const Partner& p) { return std::tie(p.site, p.shift[0], p.shift[1], p.shift[2]); };
    auto before = [&](const Partner& a, const Partner& b) { return key(a) < key(b); };
    auto has = [&](int32_t j, int32_t a, int32_t b, int32_t c) {
      return std::binary_search(own.begin(), own.end(), Partner{j, {a, b, c}}, before);
    };
    for (size_t k = 1; k < own.size(); ++k)
      if (!before(own[k - 1], own[k])) fail("partners are not in order");
    if (cutoff * cutoff != 0.0 && !has(int32_t(s), 0, 0, 0)) fail("a site is no partner of its own");
    for (const Partner& p : own) {
      if (p.site < 0 || p.site >= nsites) fail("a partner that there cannot be");
      if (p.site != s && !(exists[size_t(p.site)] && exists[size_t(s)]))
        fail("a partner that is not there");
      for (int32_t x : p.shift)
        if (std::abs(x) > largest) fail("a larger shift than the largest");
    }
    if (!plain || !exists[size_t(s)]) return;
    size_t number = 0;
    for (int32_t j = 0; j < nsites; ++j) {
      if (!exists[size_t(j)]) continue;
      double away[3], turns[3];
      for (size_t c = 0; c < 3; ++c) away[c] = points[3 * size_t(j) + c] - points[3 * size_t(s) + c];
      for (size_t d = 0; d < 3; ++d)
        turns[d] = away[0] * inverse[d] + away[1] * inverse[3 + d] + away[2] * inverse[6 + d];
      int32_t low[3] = {}, high[3] = {};
      for (size_t d = 0; d < 3; ++d)
        if (periodic[d]) low[d] = int32_t(std::floor(-turns[d])) - 4, high[d] = low[d] + 9;
      for (int32_t a = low[0]; a <= high[0]; ++a)
        for (int32_t b = low[1]; b <= high[1]; ++b)
          for (int32_t c = low[2]; c <= high[2]; ++c) {
            double square = 0.0;
            for (size_t x = 0; x < 3; ++x) {
              const double to = away[x] + a * box[x] + b * box[3 + x] + c * box[6 + x];
              square += to * to;
            }
            if (std::abs(std::sqrt(square) - cutoff) < 1e-9) continue;
            if (has(j, a, b, c) != (square < cutoff * cutoff))
              fail("other partners than in a plain search");
            number += square < cutoff * cutoff;
          }
    }
    if (number != own.size()) fail("more partners than in a plain search");
  }

  // Every point of every partner.
  std::vector<Neighbor> all() const {
    std::vector<Neighbor> found;
    for (int64_t from = 0; from < nsites; ++from)
      for (int64_t k = start[size_t(from)]; k < start[size_t(from) + 1]; ++k) {
        const auto& [to, s] = partners[size_t(k)];
        double image[3] = {};
        if (s[0] || s[1] || s[2])
          for (size_t c = 0; c < 3; ++c)
            image[c] = s[0] * box[c] + s[1] * box[3 + c] + s[2] * box[6 + c];
        for (int64_t m = first[size_t(to)]; m < first[size_t(to) + 1]; ++m) {
          const int64_t point = member[size_t(m)];
          double square = 0.0;
          for (int64_t c = 0; c < 3; ++c) {
            const double x = points[size_t(3 * point + c)] + image[c] - points[size_t(3 * from + c)];
            square += x * x;
          }
          const bool itself = point == from && !s[0] && !s[1] && !s[2];
          if (square < rcut * rcut && !itself)
            found.push_back({from, types[size_t(point)], point, {s[0], s[1], s[2]}, square});
        }
      }
    // in the order of sites and shifts, and of the points of a site
    std::stable_sort(found.begin(), found.end());
    return found;
  }
};

template <class Shift>
void check_lists(Bytes& in, const Frame& frame, const Search& search, const std::vector<int32_t>& count,
                 const std::vector<Neighbor>& want) {
  std::vector<int32_t> index(want.size());
  std::vector<Shift> shifts(3 * want.size());
  deepspin_list(frame.threads, &search, count.data(), sizeof(Shift), index.data(), shifts.data());
  std::vector<Neighbor> got;
  std::vector<int64_t> start;
  size_t at = 0;
  for (size_t block = 0; block < count.size(); ++block) {
    start.push_back(int64_t(at));
    for (int k = 0; k < count[block]; ++k, ++at) {
      const Shift* s = &shifts[3 * at];
      got.push_back({int64_t(block) / frame.nblocks,
                     int64_t(block) % frame.nblocks,
                     index[at],
                     {s[0], s[1], s[2]},
                     want[at].square});
    }
  }
  std::vector<Neighbor> sorted = got;
  std::stable_sort(sorted.begin(), sorted.end());
  for (size_t k = 0; k < want.size(); ++k)
    if (want[k] < sorted[k] || sorted[k] < want[k]) fail("another neighbour than in a plain search");
  // rows of some centres, and of none
  const int64_t nrows = in.below(6);
  std::vector<int64_t> centre, width, name;
  for (int64_t k = 0; k < nrows; ++k)
    centre.push_back(frame.nsites ? in.below(int(frame.nsites) + 1) - 1 : -1);
  for (size_t k = 0; k < frame.types.size(); ++k) name.push_back(int64_t(1000 + k));
  std::vector<std::vector<int32_t>> lists, images;
  std::vector<int32_t*> to, to_images;
  for (int64_t e = 0; e < frame.nblocks; ++e) {
    width.push_back(in.below(5));
    lists.emplace_back(size_t(nrows * width.back()));
    images.emplace_back(size_t(nrows * width.back() * 3));
  }
  for (auto& x : lists) to.push_back(x.data());
  for (auto& x : images) to_images.push_back(x.data());
  deepspin_pad(frame.threads, nrows, frame.nblocks, centre.data(), start.data(), count.data(),
               index.data(), shifts.data(), sizeof(Shift), name.data(), width.data(), to.data(),
               to_images.data());
  for (int64_t row = 0; row < nrows; ++row)
    for (int64_t e = 0; e < frame.nblocks; ++e)
      for (int64_t k = 0; k < width[size_t(e)]; ++k) {
        const int64_t c = centre[size_t(row)], block = c * frame.nblocks + e;
        const bool any = c >= 0 && k < count[size_t(block)];
        const size_t slot = size_t(row * width[size_t(e)] + k);
        const Neighbor none{0, 0, -1001, {0, 0, 0}, 0.0};
        const Neighbor& right = any ? got[size_t(start[size_t(block)] + k)] : none;
        if (lists[size_t(e)][slot] != right.point + 1000) fail("another neighbour in a row");
        if (!std::equal(right.shift.begin(), right.shift.end(), &images[size_t(e)][3 * slot]))
          fail("another shift in a row");
      }
}

}  // namespace

void neighbors(Bytes in) {
  const Frame frame(in);
  const Search search{frame.nsites,       frame.nblocks,       frame.start.data(), partners.data(),
                      frame.first.data(), frame.member.data(), frame.types.data(), frame.points.data(),
                      frame.box.data(),   frame.rcut};
  const std::vector<Neighbor> want = frame.all();
  const size_t blocks = size_t(frame.nsites * frame.nblocks);
  std::vector<int32_t> count(blocks);
  std::vector<double> coordination(blocks), closest(blocks), nearest(2);
  deepspin_count(frame.threads, &search, count.data(), coordination.data(), closest.data(),
                 nearest.data());
  std::vector<int32_t> right(blocks);
  std::vector<double> least(blocks, INFINITY);
  double all[2] = {INFINITY, INFINITY};
  for (const Neighbor& n : want) {
    const size_t block = size_t(n.centre * frame.nblocks + n.block);
    ++right[block];
    least[block] = std::min(least[block], n.square);
    all[0] = std::min(all[0], n.square);
    if (n.point < frame.nsites) all[1] = std::min(all[1], n.square);
  }
  if (right != count) fail("another number of neighbours than in a plain search");
  if (least != closest || all[0] != nearest[0] || all[1] != nearest[1])
    fail("another least distance than in a plain search");
  if (frame.largest < 128) check_lists<int8_t>(in, frame, search, count, want);
  check_lists<int32_t>(in, frame, search, count, want);
}

}  // namespace fuzz
