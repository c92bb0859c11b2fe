// SPDX-License-Identifier: Apache-2.0
// The kernels of the scheme `invariant` on random problems: forces and pulls on spins are
// derivatives of the energy, threads change no bit, rows of the fit times its numbers are the
// linear part.
#include "invariant.h"
#include "problems.h"

namespace deepspin {
namespace base {
extern const InvariantKernels invariant_kernels;
}

namespace {

const InvariantKernels& kernels = base::invariant_kernels;

template <class T>
struct Case : Arrays<T> {
  Invariant p{};
  size_t coord, spin;  // which of `doubles` hold them
  int numbers_of_all = 0;

  Case() {
    this->doubles.reserve(100), this->integers.reserve(100), this->weights.reserve(1000);
    this->atoms(p);
    p.nall = p.nloc + integer(0, 1) * integer(0, 5);
    const size_t all = size_t(p.nf) * p.nall;
    p.coord = this->numbers(3 * all, 0.0, 4.0);
    coord = this->doubles.size() - 1;
    p.spin = this->numbers(3 * all, -1.5, 1.5);
    spin = this->doubles.size() - 1;
    p.box = this->numbers(9 * p.nf, 2.0, 4.0);
    p.rcut = 3.0, p.rcut_smth = 1.0;
    p.nradial = integer(0, 9) ? integer(1, 9) : MOST_RADIAL;
    p.channels = integer(1, 6), p.axis = integer(1, p.channels);
    p.ncross = integer(0, std::min(p.nradial, 3));
    p.soc = integer(0, 1), p.baseline = integer(0, 3);
    for (int t = 0; t < p.ntypes; ++t) {
      p.magnetic.push_back(char(integer(0, 2) > 0));
      p.width.push_back(integer(0, 9));
      this->list(p, p.nall, p.width[t], p.nlist, p.shift);
    }
    p.mixing = this->numbers(size_t(p.ntypes) * p.ntypes * p.nradial * p.channels, -0.5, 0.5);
    p.nearest = this->numbers(size_t(p.ntypes) * p.ntypes, 0.0, 1.5);
    p.longest = this->numbers(p.ntypes, -1.0, 1.5);
    p.stiffness = this->numbers(p.ntypes, 0.5, 2.0);
    const int dim = kernels.components(p);
    p.average = this->numbers(size_t(p.ntypes) * dim, -1.0, 1.0);
    p.inverse = this->numbers(size_t(p.ntypes) * dim, 0.05, 0.3);
    p.scale = this->numbers(p.ntypes, 0.5, 2.0);
    const std::vector<int> hidden = this->widths(0);
    const bool dt = integer(0, 1);
    for (int t = 0; t < p.ntypes; ++t) {
      const int number = kernels.numbers(p, t);
      p.theta.push_back(this->numbers(number, -0.1, 0.1));
      numbers_of_all += number;
      p.fitting.push_back(this->net(hidden, dim, true, dt));
    }
  }
};

struct Answer {
  std::vector<double> atom_ener, force, spin_pull, atom_virial, coord, spin, box;
  std::vector<std::vector<double>> theta;
  std::vector<std::vector<char>> gradients;
  std::vector<std::pair<const char*, const std::vector<double>*>> first_derivatives() const {
    std::vector<std::pair<const char*, const std::vector<double>*>> all = {
        {"atom_ener", &atom_ener},
        {"force", &force},
        {"spin_pull", &spin_pull},
        {"atom_virial", &atom_virial}};
    for (const auto& own : theta) all.push_back({"a gradient of the baseline", &own});
    return all;
  }
  std::vector<std::pair<const char*, const std::vector<double>*>> second_derivatives() const {
    return {{"coord", &coord}, {"spin", &spin}, {"box", &box}};
  }
};

template <class T>
void evaluate(const Invariant& p, Answer& a) {
  const size_t all = size_t(p.nf) * p.nall;
  a.atom_ener.resize(size_t(p.nf) * p.nloc);
  a.force.resize(3 * all), a.spin_pull.resize(3 * all), a.atom_virial.resize(9 * all);
  InvariantForward out{a.atom_ener.data(), a.force.data(), a.spin_pull.data(), a.atom_virial.data()};
  (sizeof(T) == 4 ? kernels.forward_float : kernels.forward_double)(p, out);
}

template <class T>
Answer run(const Invariant& p, const std::vector<double>& upstream) {
  Answer a;
  evaluate<T>(p, a);
  const auto backward = sizeof(T) == 4 ? kernels.backward_float : kernels.backward_double;
  auto part = [&](const std::vector<double>& like) {
    return std::vector<double>(upstream.begin(), upstream.begin() + long(like.size()));
  };
  const std::vector<double> energy = part(a.atom_ener), force = part(a.force),
                            spin_pull = part(a.spin_pull), virial = part(a.atom_virial);
  InvariantBackward in{};
  in.atom_ener = energy.data(), in.force = force.data();
  in.spin_pull = spin_pull.data(), in.atom_virial = virial.data();
  for (int t = 0; t < p.ntypes; ++t) {
    a.theta.emplace_back(kernels.numbers(p, t));
    for (const Layer& l : p.fitting[t]) {
      a.gradients.emplace_back(sizeof(T) * l.n_in * l.n_out);
      a.gradients.emplace_back(sizeof(T) * l.n_out);
      if (l.idt) a.gradients.emplace_back(sizeof(T) * l.n_out);
    }
  }
  for (auto& own : a.theta) in.theta.push_back(own.data());
  for (auto& own : a.gradients) in.weights.push_back(own.data());
  backward(p, in);
  a.coord.resize(a.force.size()), a.spin.resize(a.force.size()), a.box.resize(9 * size_t(p.nf));
  in.coord = a.coord.data(), in.spin = a.spin.data(), in.box = a.box.data();
  in.theta.clear(), in.weights.clear();
  backward(p, in);
  return a;
}

bool equal(const Answer& a, const Answer& b) {
  bool result = a.gradients == b.gradients && a.theta.size() == b.theta.size();
  auto compare = [&](const auto& one, const auto& other) {
    for (size_t k = 0; k < one.size(); ++k) result = result && same(*one[k].second, *other[k].second);
  };
  compare(a.first_derivatives(), b.first_derivatives());
  compare(a.second_derivatives(), b.second_derivatives());
  return result;
}

// Central differences of the energy in some numbers; `sign` times the derivative is `slopes`.
template <class T>
void check_slopes(Case<T>& c, std::vector<double>& moved, const std::vector<double>& slopes,
                  double sign) {
  const double step = 1e-6;
  for (int trial = 0; trial < 3; ++trial) {
    const size_t at = size_t(integer(0, int(moved.size()) - 1));
    const double old = moved[at];
    double energy[2] = {}, sum = 0.0;
    for (int end = 0; end < 2; ++end) {
      moved[at] = old + (end ? -step : step);
      Answer a;
      evaluate<T>(c.p, a);
      for (double e : a.atom_ener) energy[end] += e, sum += std::abs(e);
    }
    moved[at] = old;
    double largest = 1.0;
    for (double x : slopes) largest = std::max(largest, std::abs(x));
    const double gap = (energy[0] - energy[1]) / (2 * step) - sign * slopes[at];
    if (!(std::abs(gap) < 1e-5 * largest + 1e-9 * sum))
      fail("a force of the scheme invariant is no derivative: " + std::to_string(gap));
  }
}

// Rows of the fit: times the numbers they are the linear part, for any number of threads.
void check_rows(Invariant p, int n) {
  const std::vector<double> none(size_t(p.ntypes) * p.ntypes, 0.0);
  p.scale = p.longest = p.nearest = none.data();  // no nets, no walls
  const size_t centres = size_t(p.nf) * p.nloc;
  std::vector<int32_t> place(n);
  for (int k = 0; k < n; ++k) place[k] = k;
  std::shuffle(place.begin(), place.end(), generator);
  std::vector<double> theta(n);
  InvariantRows out{};
  out.numbers = n;
  for (int t = 0, first = 0; t < p.ntypes; ++t) {
    out.place.push_back(place.data() + first);
    for (int k = 0; k < kernels.numbers(p, t); ++k) theta[place[first++]] = p.theta[t][k];
  }
  std::vector<std::vector<double>> results[2];
  for (auto& r : results) {
    p.threads = &r == results ? 1 : 3;
    for (size_t rows : {size_t(p.nf), 3 * centres, 3 * centres, size_t(9) * p.nf})
      r.emplace_back(rows * n);
    r.emplace_back(centres * kernels.components(p));
    out.energy = r[0].data(), out.force = r[1].data(), out.force_mag = r[2].data();
    out.virial = r[3].data(), out.scalars = r[4].data();
    kernels.rows(p, out);
  }
  for (size_t k = 0; k < results[0].size(); ++k)
    if (!same(results[0][k], results[1][k])) fail("threads change bits of rows");
  Answer a;
  evaluate<double>(p, a);
  auto check = [&](const std::vector<double>& rows, const std::vector<double>& want, double sign) {
    double largest = 1.0;
    for (double x : want) largest = std::max(largest, std::abs(x));
    for (size_t k = 0; k < want.size(); ++k) {
      double found = 0.0;
      for (int m = 0; m < n; ++m) found += rows[k * n + m] * theta[m];
      if (!(std::abs(found - sign * want[k]) < 1e-10 * largest)) fail("rows are not the linear part");
    }
  };
  check(results[0][1], a.force, 1.0);
  check(results[0][2], a.spin_pull, -1.0);
}

template <class T>
void one() {
  Case<T> c;
  std::vector<double> upstream(9 * size_t(c.p.nf) * c.p.nall);
  for (double& x : upstream) x = uniform(-1.0, 1.0);
  const Answer alone = run<T>(c.p, upstream);
  for (const auto& [name, values] : alone.first_derivatives())
    for (double x : *values)
      if (!std::isfinite(x)) fail(std::string(name) + " is not finite");
  // with the tolerances of doc/kernels.md; single precision cancels where atoms are near
  const double tolerance = sizeof(T) == 4 ? 1e-3 : 1e-10, second = sizeof(T) == 4 ? 1e-2 : 1e-8;
  for (const auto& [name, values] : alone.first_derivatives())
    record.add(name, values->data(), values->size(), tolerance);
  for (const auto& [name, values] : alone.second_derivatives())
    record.add(name, values->data(), values->size(), second);
  for (const auto& g : alone.gradients)
    record.add("a gradient", reinterpret_cast<const T*>(g.data()), g.size() / sizeof(T), tolerance);
  c.p.threads = 3;
  if (!equal(run<T>(c.p, upstream), alone)) fail("threads change bits of the scheme invariant");
  if (sizeof(T) == 4) return;
  check_slopes<T>(c, c.doubles[c.coord], alone.force, -1.0);
  check_slopes<T>(c, c.doubles[c.spin], alone.spin_pull, 1.0);
  if (c.p.nall == c.p.nloc) check_rows(c.p, c.numbers_of_all);
}

}  // namespace

void invariant_problems() {
  one<double>();
  one<float>();
}

}  // namespace deepspin
