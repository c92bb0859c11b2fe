// SPDX-License-Identifier: Apache-2.0
// Calls the kernels on random problems, without TensorFlow, so that sanitizers see all
// they do; run.sh compiles and runs it. Besides, it checks that forces are derivatives of
// the energy and that numbers of threads do not change a bit.
//
// `driver 5 write FILE` writes all results of its problems to a file, and `driver 5 compare
// FILE`, compiled for another processor, finds the same numbers but for rounding.
#include <atomic>
#include <new>

#include "potential.h"
#include "problems.h"

namespace deepspin {
namespace base {
extern const Kernels kernels;
}

namespace {

template <class T>
struct Case : Arrays<T> {
  Problem p{};
  size_t moved;  // which of `doubles` holds the points

  explicit Case(bool tables) {
    this->doubles.reserve(100), this->integers.reserve(100), this->weights.reserve(1000);
    this->atoms(p);
    const size_t centres = size_t(p.nf) * p.nloc;
    p.points = this->numbers(6 * centres, 0.0, 4.0);
    moved = this->doubles.size() - 1;
    p.offset = this->numbers(6 * centres, -0.4, 0.4);
    p.box = this->numbers(9 * p.nf, 2.0, 4.0);
    p.nblocks = p.ntypes + integer(0, 2);
    p.one_side = integer(0, 1);
    p.rcut = 3.0, p.rcut_smth = 1.0, p.length = 2.0;
    for (int e = 0; e < p.nblocks; ++e) {
      p.sel.push_back(integer(0, 5) ? 12 : 0);
      p.width.push_back(integer(0, 9));
      p.nnei += p.sel.back();
      this->list(p, p.npoints(), p.width[e], p.nlist, p.shift);
    }
    p.nnei += p.nnei == 0;
    for (int k = 0; k < p.ntypes * p.nblocks; ++k) p.excluded.push_back(integer(0, 5) == 0);
    p.davg = this->numbers(4 * p.ntypes, 0.0, 0.1);
    p.dstd = this->numbers(4 * p.ntypes, 0.2, 0.5);
    std::vector<int> embedding = this->widths(1);
    p.channels = embedding.back();
    p.axis = integer(1, p.channels);
    const bool dt = integer(0, 1);
    for (int k = 0; k < p.nnets(); ++k) {
      if (!tables) {
        p.embedding.push_back(this->net(embedding, 1, false, dt));
        continue;
      }
      const int leaves = integer(1, 4);
      double* edges = this->numbers(2 * leaves, 0.0, 0.0);
      for (int l = 0; l < leaves; ++l) edges[2 * l] = 1.5 * l - 1.0, edges[2 * l + 1] = 1.5;
      const int order = order_of(sizeof(T) == 4);
      p.tables.push_back({leaves, edges, this->weight(size_t(leaves) * order * p.channels, 0.1)});
    }
    const std::vector<int> hidden = this->widths(0);
    for (int t = 0; t < p.ntypes; ++t)
      p.fitting.push_back(this->net(hidden, p.channels * p.axis, true, integer(0, 1)));
  }
};

struct Answer {
  std::vector<double> atom_ener, force, atom_virial, points, offset, box;
  std::vector<char> kept;
  std::vector<std::vector<char>> gradients;
  bool operator==(const Answer& other) const {
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
  std::vector<double>& points = c.doubles[c.moved];
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
  for (int k = 0; k < count; ++k) {
    for (bool tables : {false, true}) {
      deepspin::one<double>(tables);
      deepspin::one<float>(tables);
    }
    deepspin::invariant_problems();
  }
  std::printf("%d problems%s\n", 6 * count, deepspin::record.close().c_str());
}
