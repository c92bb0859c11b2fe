// SPDX-License-Identifier: Apache-2.0
// Calls the kernels on random problems, without TensorFlow, so that sanitizers see all
// they do; run.sh compiles and runs it. Besides, it checks that forces are derivatives of
// the energy and that numbers of threads do not change a bit.
//
// `driver 5 write FILE` writes all results of its problems to a file, and `driver 5 compare
// FILE`, compiled for another processor, finds the same numbers but for rounding.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <string>

#include "potential.h"

namespace deepspin {
namespace base {
extern const Kernels kernels;
}

namespace {

std::mt19937 generator(1);

double uniform(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(generator);
}

int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

[[noreturn]] void fail(const std::string& what) {
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
      if (!(here <= gap)) gap = here;  // NaN, too
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

Record record;

// Everything a problem points to. Each array is a block of its own, of its exact size.
template <class T>
struct Case {
  Problem p{};
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

  explicit Case(bool tables) {
    doubles.reserve(100), integers.reserve(100), weights.reserve(1000);
    p.ntypes = integer(1, 3);
    p.nblocks = p.ntypes + integer(0, 2);
    p.nf = integer(1, 3);
    p.one_side = integer(0, 1);
    p.threads = 1;
    p.rcut = 3.0, p.rcut_smth = 1.0, p.length = 2.0;
    for (int t = 0; t < p.ntypes; ++t) {
      p.begin.push_back(p.nloc);
      p.natoms.push_back(integer(0, 3) ? integer(1, 20) : 0);
      p.nloc += p.natoms.back();
    }
    if (p.nloc == 0) p.nloc = p.natoms.back() = 1;
    for (int e = 0; e < p.nblocks; ++e) {
      p.sel.push_back(integer(0, 5) ? 12 : 0);
      p.width.push_back(integer(0, 9));
      p.nnei += p.sel.back();
    }
    p.nnei += p.nnei == 0;
    for (int k = 0; k < p.ntypes * p.nblocks; ++k) p.excluded.push_back(integer(0, 5) == 0);
    const size_t centres = size_t(p.nf) * p.nloc;
    p.points = numbers(6 * centres, 0.0, 4.0);
    p.offset = numbers(6 * centres, -0.4, 0.4);
    p.box = numbers(9 * p.nf, 2.0, 4.0);
    double* mask = numbers(centres, 0.0, 1.0);
    for (size_t k = 0; k < centres; ++k) mask[k] = mask[k] > 0.15;
    p.mask = mask;
    p.davg = numbers(4 * p.ntypes, 0.0, 0.1);
    p.dstd = numbers(4 * p.ntypes, 0.2, 0.5);
    for (int e = 0; e < p.nblocks; ++e) {
      integers.emplace_back(centres * p.width[e]);
      for (size_t k = 0; k < integers.back().size(); ++k) {
        const int i = int(k / p.width[e] % p.nloc), j = integer(-1, 2 * p.nloc - 1);
        integers.back()[k] = j == i ? -1 : j;
      }
      p.nlist.push_back(integers.back().data());
      integers.emplace_back(centres * p.width[e] * 3);
      for (int32_t& x : integers.back()) x = integer(-1, 1);
      p.shift.push_back(integers.back().data());
    }
    std::vector<int> embedding = widths(1);
    p.channels = embedding.back();
    p.axis = integer(1, p.channels);
    const bool dt = integer(0, 1);
    for (int k = 0; k < p.nnets(); ++k) {
      if (!tables) {
        p.embedding.push_back(net(embedding, 1, false, dt));
        continue;
      }
      const int leaves = integer(1, 4);
      double* edges = numbers(2 * leaves, 0.0, 0.0);
      for (int l = 0; l < leaves; ++l) edges[2 * l] = 1.5 * l - 1.0, edges[2 * l + 1] = 1.5;
      const int order = order_of(sizeof(T) == 4);
      p.tables.push_back({leaves, edges, weight(size_t(leaves) * order * p.channels, 0.1)});
    }
    const std::vector<int> hidden = widths(0);
    for (int t = 0; t < p.ntypes; ++t)
      p.fitting.push_back(net(hidden, p.channels * p.axis, true, integer(0, 1)));
  }
};

struct Answer {
  std::vector<double> atom_ener, force, atom_virial, points, offset, box;
  std::vector<char> kept;
  std::vector<std::vector<char>> gradients;
  bool operator==(const Answer& other) const {
    auto same = [](const auto& a, const auto& b) {
      return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]);
    };
    bool result = same(atom_ener, other.atom_ener) && same(force, other.force) &&
                  same(atom_virial, other.atom_virial) && same(points, other.points) &&
                  same(offset, other.offset) && same(box, other.box);
    for (size_t k = 0; k < gradients.size(); ++k)
      result = result && same(gradients[k], other.gradients[k]);
    return result;
  }
};

template <class T>
Answer run(const Problem& p, bool keep, const std::vector<double>& upstream) {
  constexpr bool single = sizeof(T) == 4;
  const Kernels& k = base::kernels;
  const size_t centres = size_t(p.nf) * p.nloc;
  Answer a;
  a.atom_ener.resize(centres), a.force.resize(6 * centres), a.atom_virial.resize(9 * centres);
  Forward out{a.atom_ener.data(), a.force.data(), a.atom_virial.data(), 0, {}};
  if (keep)
    out.keep = [&](size_t bytes) {
      a.kept.resize(bytes);
      return a.kept.data();
    };
  if (const char* error = (single ? k.forward_float : k.forward_double)(p, out)) fail(error);
  if (!keep) return a;
  Backward in{};
  const std::vector<double> energy(upstream.begin(), upstream.begin() + centres);
  const std::vector<double> force(upstream.begin(), upstream.begin() + 6 * centres);
  const std::vector<double> virial(upstream.begin(), upstream.begin() + 9 * centres);
  in.atom_ener = energy.data(), in.force = force.data(), in.atom_virial = virial.data();
  in.kept = a.kept.data(), in.kept_bytes = a.kept.size();
  const auto backward = single ? k.backward_float : k.backward_double;
  if (p.tables.empty()) {
    for (const auto* nets : {&p.embedding, &p.fitting})
      for (const Net& net : *nets)
        for (const Layer& l : net) {
          a.gradients.emplace_back(sizeof(T) * l.n_in * l.n_out);
          a.gradients.emplace_back(sizeof(T) * l.n_out);
          if (l.idt) a.gradients.emplace_back(sizeof(T) * l.n_out);
        }
    for (auto& g : a.gradients) in.weights.push_back(g.data());
    if (const char* error = backward(p, in)) fail(error);
    in.weights.clear();
  }
  a.points.resize(6 * centres), a.offset.resize(6 * centres), a.box.resize(9 * p.nf);
  in.points = a.points.data(), in.offset = a.offset.data(), in.box = a.box.data();
  if (const char* error = backward(p, in)) fail(error);
  for (size_t cut : {size_t(0), size_t(8), a.kept.size() / 2}) {  // truncated: refused
    in.kept_bytes = cut;
    if (!backward(p, in)) fail("truncated `kept` was accepted");
  }
  return a;
}

// With the tolerances of doc/kernels.md; single precision cancels where points are near.
template <class T>
void keep_record(const Answer& a) {
  const double first = sizeof(T) == 4 ? 1e-3 : 1e-10, second = sizeof(T) == 4 ? 1e-2 : 1e-8;
  auto add = [&](const char* name, const std::vector<double>& values, double tolerance) {
    record.add(name, values.data(), values.size(), tolerance);
  };
  add("atom_ener", a.atom_ener, first), add("force", a.force, first);
  add("atom_virial", a.atom_virial, first), add("points", a.points, second);
  add("offset", a.offset, second), add("box", a.box, second);
  for (const auto& g : a.gradients)
    record.add("a gradient", reinterpret_cast<const T*>(g.data()), g.size() / sizeof(T), first);
}

template <class T>
void check_forces(Case<T>& c, const Answer& a) {
  const double step = 1e-6;
  std::vector<double>& points = c.doubles[0];
  for (int trial = 0; trial < 3; ++trial) {
    const size_t at = integer(0, int(points.size()) - 1);
    const double old = points[at];
    double energy[2] = {}, sum = 0.0;
    for (int end = 0; end < 2; ++end) {
      points[at] = old + (end ? step : -step);
      for (double e : run<T>(c.p, false, {}).atom_ener) energy[end] += e, sum += std::abs(e);
    }
    points[at] = old;
    double largest = 1.0;
    for (double f : a.force) largest = std::max(largest, std::abs(f));
    const double gap = (energy[0] - energy[1]) / (2 * step) - a.force[at];
    if (!(std::abs(gap) < 1e-5 * largest + 1e-9 * sum))
      fail("a force is no derivative: " + std::to_string(gap));
  }
}

template <class T>
void one(bool tables) {
  Case<T> c(tables);
  std::vector<double> upstream(9 * size_t(c.p.nf) * c.p.nloc);
  for (double& x : upstream) x = uniform(-1.0, 1.0);
  const Answer alone = run<T>(c.p, true, upstream);
  for (double e : alone.atom_ener)
    if (!std::isfinite(e)) fail("an energy is not finite");
  keep_record<T>(alone);
  c.p.threads = 3;
  if (!(run<T>(c.p, true, upstream) == alone)) fail("threads change bits");
  if (sizeof(T) == sizeof(double)) check_forces(c, alone);
}

// What is thrown in any thread comes out, and the threads go on to work.
void check_exceptions() {
  for (int thrower = 0; thrower < 40; ++thrower) {
    std::atomic<int> done{0};
    bool caught = false;
    try {
      parallel(3, 40, [&](int k) {
        if (k == thrower) throw std::bad_alloc();
        ++done;
      });
    } catch (const std::bad_alloc&) {
      caught = true;
    }
    if (!caught || done > 39) fail("an exception was lost");
  }
  std::atomic<int> done{0};
  parallel(3, 40, [&](int) { ++done; });
  if (done != 40) fail("work was lost");
}

}  // namespace
}  // namespace deepspin

int main(int argc, char** argv) {
  deepspin::check_exceptions();
  const int count = argc > 1 ? std::atoi(argv[1]) : 20;
  if (argc > 3) deepspin::record.open(argv[2], argv[3]);
  for (int k = 0; k < count; ++k)
    for (bool tables : {false, true}) {
      deepspin::one<double>(tables);
      deepspin::one<float>(tables);
    }
  std::printf("%d problems%s\n", 4 * count, deepspin::record.close().c_str());
}
