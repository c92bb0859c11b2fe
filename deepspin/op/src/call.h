// SPDX-License-Identifier: Apache-2.0
// What all TensorFlow operations share: inputs that are checked, outputs, errors, registration.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensorflow.h"

namespace deepspin {
namespace {

struct Invalid : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] __attribute__((format(printf, 1, 2))) void refuse(const char* format, ...) {
  char text[400];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  throw Invalid(text);
}

// Inputs and outputs of one call, freed at its end.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Call() {
    for (TF_Tensor* t : tensors_) TF_DeleteTensor(t);
    TF_DeleteStatus(status_);
  }

  struct Array {
    const void* data;
    std::vector<int64_t> shape;
    size_t bytes;
    int64_t size() const {
      int64_t n = 1;
      for (int64_t d : shape) n *= d;
      return n;
    }
  };

  Array input(const char* name, TF_DataType type, int rank) {
    if (next_ >= TF_NumInputs(context_)) refuse("`%s` is missing", name);
    TF_Tensor* t = nullptr;
    TF_GetInput(context_, next_++, &t, status_);
    check();
    tensors_.push_back(t);
    if (TF_TensorType(t) != type)
      refuse("`%s` has the wrong type %d, not %d", name, TF_TensorType(t), type);
    if (TF_NumDims(t) != rank)
      refuse("`%s` must have %d dimensions. Received: %d", name, rank, TF_NumDims(t));
    Array a{TF_TensorData(t), {}, TF_TensorByteSize(t)};
    for (int i = 0; i < rank; ++i) a.shape.push_back(TF_Dim(t, i));
    return a;
  }

  template <class X>
  const X* input(const char* name, TF_DataType type, const std::vector<int64_t>& shape) {
    Array a = input(name, type, int(shape.size()));
    for (size_t i = 0; i < shape.size(); ++i)
      if (a.shape[i] != shape[i])
        refuse("dimension %zu of `%s` must be %lld. Received: %lld", i, name, (long long)shape[i],
               (long long)a.shape[i]);
    return static_cast<const X*>(a.data);
  }

  const double* finite(const char* name, const std::vector<int64_t>& shape) {
    const double* values = input<double>(name, TF_DOUBLE, shape);
    return finite(name, Array{values, shape, 0});
  }

  static const double* finite(const char* name, const Array& a) {
    const double* values = static_cast<const double*>(a.data);
    double zero = 0.0;
    const int64_t size = a.size();
    for (int64_t i = 0; i < size; ++i) zero += values[i] * 0.0;  // NaN if any is not finite
    if (!(zero == 0.0)) refuse("`%s` is NaN or infinite somewhere", name);
    return values;
  }

  void* output(TF_DataType type, const std::vector<int64_t>& shape) {
    static const size_t sizes[] = {0, 4, 8, 4, 1, 0, 0, 0, 0, 8};
    size_t bytes = sizes[type];
    for (int64_t d : shape) bytes *= size_t(d);
    TF_Tensor* t =
        TF_AllocateOutput(context_, made_++, type, shape.data(), int(shape.size()), bytes, status_);
    check();
    tensors_.push_back(t);
    return TF_TensorData(t);
  }

  void end() const {  // of the inputs
    if (next_ != TF_NumInputs(context_))
      refuse("%d inputs were expected, nets and all. Received: %d", next_, TF_NumInputs(context_));
  }

  void fail(TF_Code code, const std::string& message) {  // what Python looks for
    TF_SetStatus(status_, code, ("deepspin: " + message).c_str());
    TF_OpKernelContext_Failure(context_, status_);
  }

 private:
  void check() {
    if (TF_GetCode(status_) != TF_OK) throw std::runtime_error(TF_Message(status_));
  }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> tensors_;
  int next_ = 0, made_ = 0;
};

// Numbers of `options` in turn.
class Options {
 public:
  explicit Options(const Call::Array& a)
      : at_(static_cast<const int64_t*>(a.data)), end_(at_ + a.size()) {}
  int next(const char* name, int64_t least, int64_t most) {
    if (at_ == end_) refuse("`options` is too short: %s is missing", name);
    int64_t value = *at_++;
    if (value < least || value > most)
      refuse("%s must be from %lld to %lld. Received: %lld", name, (long long)least, (long long)most,
             (long long)value);
    return int(value);
  }
  bool done() const { return at_ == end_; }

 private:
  const int64_t *at_, *end_;
};

// No exception may leave this library: what is thrown becomes the operation's error.
template <class Work>
void guarded(TF_OpKernelContext* context, Work work) {
  Call call(context);
  try {
    work(call);
  } catch (const Invalid& error) {
    call.fail(TF_INVALID_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    call.fail(TF_RESOURCE_EXHAUSTED, "out of memory");
  } catch (const std::exception& error) {
    call.fail(TF_INTERNAL, error.what());
  }
}

void unknown_shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

void define(TF_OpDefinitionBuilder* op, TF_Status* status) {
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, unknown_shapes);
  TF_RegisterOpDefinition(op, status);
}

void add_kernel(const char* op, TF_DataType type, void* (*create)(TF_OpKernelConstruction*),
                void (*compute)(void*, TF_OpKernelContext*), void (*destroy)(void*),
                TF_Status* status) {
  TF_KernelBuilder* builder = TF_NewKernelBuilder(op, "CPU", create, compute, destroy);
  TF_KernelBuilder_TypeConstraint(builder, "T", type, status);
  TF_RegisterKernelBuilder(op, builder, status);
}

}  // namespace
}  // namespace deepspin
