// SPDX-License-Identifier: Apache-2.0
// Neighbour lists of few sites, of nothing, of points that are nowhere: those of a plain
// search over all partners, in order.
#include <algorithm>
#include <array>
#include <tuple>
#include <vector>

#include "fuzz.h"

namespace fuzz {
namespace {

// as in neighbors.cc
struct Partner {
  int32_t site, shift[3];
};
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
void deepspin_partners(int, int64_t, int64_t, const uint64_t*, const uint64_t*, const int32_t*,
                       int64_t*, Partner*);
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

// Sites, the points that they stand for, and pairs of sites.
struct Frame {
  int threads;
  int64_t nsites, nblocks;
  std::vector<uint64_t> i, j;
  std::vector<int32_t> shift;
  std::vector<int64_t> first, member, types;
  std::vector<double> points, box;
  double rcut;

  explicit Frame(Bytes& in) {
    threads = 1 + in.below(3);
    nsites = in.below(9);
    nblocks = 1 + in.below(3);
    const int npairs = nsites ? in.below(20) : 0;
    Ordinary ordinary(in.next());
    for (int k = 0; k < npairs; ++k) {
      i.push_back(uint64_t(ordinary.below(int(nsites))));
      j.push_back(uint64_t(ordinary.below(int(nsites))));
      for (int c = 0; c < 3; ++c) shift.push_back(ordinary.below(5) - 2);
    }
    if (npairs && in.below(4) == 0) shift[size_t(in.below(npairs))] = in.below(2) ? 127 : -127;
    // a site's own point, and perhaps another one behind those of all sites
    first.push_back(0);
    int64_t npoints = nsites;
    for (int64_t s = 0; s < nsites; ++s) {
      member.push_back(s);
      if (ordinary.below(2)) member.push_back(npoints++);
      first.push_back(int64_t(member.size()));
    }
    for (int64_t k = 0; k < npoints; ++k) types.push_back(ordinary.below(int(nblocks)));
    for (int64_t k = 0; k < 3 * npoints; ++k) points.push_back(ordinary.from(0.0, 3.0));
    for (int k = 0; k < 9; ++k) box.push_back(ordinary.from(-2.0, 2.0));
    for (int k = in.below(4); k > 0; --k) {
      std::vector<double>& where = in.below(2) ? points : box;
      const int at = in.next();
      const double value = in.number();
      if (!where.empty()) where[size_t(at) % where.size()] = value;
    }
    rcut = in.below(3) ? 2.5 : in.number();
  }

  // Every pair, from both of its sites, and each site with itself.
  std::vector<Neighbor> plain() const {
    std::vector<Neighbor> found;
    auto see = [&](int64_t from, int64_t to, std::array<int32_t, 3> s) {
      double image[3] = {};
      if (s[0] || s[1] || s[2])
        for (size_t c = 0; c < 3; ++c) image[c] = s[0] * box[c] + s[1] * box[3 + c] + s[2] * box[6 + c];
      for (int64_t m = first[size_t(to)]; m < first[size_t(to) + 1]; ++m) {
        const int64_t point = member[size_t(m)];
        double square = 0.0;
        for (int64_t c = 0; c < 3; ++c) {
          const double x = points[size_t(3 * point + c)] + image[c] - points[size_t(3 * from + c)];
          square += x * x;
        }
        const bool itself = point == from && !s[0] && !s[1] && !s[2];
        if (square < rcut * rcut && !itself)
          found.push_back({from, types[size_t(point)], point, s, square});
      }
    };
    for (int64_t s = 0; s < nsites; ++s) see(s, s, {0, 0, 0});
    for (size_t k = 0; k < i.size(); ++k) {
      const int32_t* s = &shift[3 * k];
      see(int64_t(i[k]), int64_t(j[k]), {s[0], s[1], s[2]});
      see(int64_t(j[k]), int64_t(i[k]), {-s[0], -s[1], -s[2]});
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
  const int64_t npairs = int64_t(frame.i.size());
  std::vector<int64_t> start(size_t(frame.nsites + 1));
  std::vector<Partner> partners(size_t(2 * npairs + frame.nsites));
  deepspin_partners(frame.threads, frame.nsites, npairs, frame.i.data(), frame.j.data(),
                    frame.shift.data(), start.data(), partners.data());
  if (start[0] != 0 || start.back() != int64_t(partners.size())) fail("partners are missing");
  const Search search{frame.nsites,       frame.nblocks,       start.data(),       partners.data(),
                      frame.first.data(), frame.member.data(), frame.types.data(), frame.points.data(),
                      frame.box.data(),   frame.rcut};
  const std::vector<Neighbor> want = frame.plain();
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
  check_lists<int8_t>(in, frame, search, count, want);
  check_lists<int32_t>(in, frame, search, count, want);
}

}  // namespace fuzz
