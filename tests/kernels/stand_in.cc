// SPDX-License-Identifier: Apache-2.0
// As much of TensorFlow's C interface as ops.cc uses, over blocks of exact sizes, so that
// address sanitizers see every step beyond one.
#include "stand_in.h"

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <utility>

using stand_in::Array;

struct TF_Status {
  TF_Code code = TF_OK;
  std::string message;
};
struct TF_Tensor {
  Array array;
};
struct TF_OpDefinitionBuilder {};
struct TF_ShapeInferenceContext {};
struct TF_KernelBuilder {
  std::string operation;
  TF_DataType type;
  void* (*create)(TF_OpKernelConstruction*);
  void (*compute)(void*, TF_OpKernelContext*);
  void (*destroy)(void*);
};
struct TF_OpKernelConstruction {
  bool training;
};
struct TF_OpKernelContext {
  const std::vector<Array>& inputs;
  stand_in::Answer answer;
};

namespace stand_in {
namespace {

constexpr size_t MOST = size_t(1) << 30;  // bytes of an array

std::map<std::pair<std::string, TF_DataType>, TF_KernelBuilder>& kernels() {
  static std::map<std::pair<std::string, TF_DataType>, TF_KernelBuilder> all;
  return all;
}

}  // namespace

int64_t Array::size() const {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

size_t width_of(TF_DataType type) {
  return type == TF_UINT8 ? 1 : type == TF_FLOAT || type == TF_INT32 ? 4 : 8;
}

Array make(TF_DataType type, const std::vector<int64_t>& shape) {
  Array a{type, shape, width_of(type), nullptr};
  for (int64_t d : shape) a.bytes *= size_t(d);
  if (a.bytes == 0) return a;
  void* block = nullptr;
  if (a.bytes > MOST || posix_memalign(&block, 64, a.bytes)) throw std::bad_alloc();
  a.data.reset(block, &std::free);
  std::memset(block, UNTOUCHED, a.bytes);
  return a;
}

Answer run(const std::string& operation, TF_DataType type, bool training,
           const std::vector<Array>& inputs) {
  const TF_KernelBuilder& kernel = kernels().at({operation, type});
  TF_OpKernelConstruction construction{training};
  void* state = kernel.create ? kernel.create(&construction) : nullptr;
  TF_OpKernelContext context{inputs, {TF_OK, "", {}}};
  kernel.compute(state, &context);
  if (kernel.destroy) kernel.destroy(state);
  return context.answer;
}

}  // namespace stand_in

extern "C" {

TF_Status* TF_NewStatus(void) { return new TF_Status; }
void TF_DeleteStatus(TF_Status* status) { delete status; }
void TF_SetStatus(TF_Status* status, TF_Code code, const char* message) { *status = {code, message}; }
TF_Code TF_GetCode(const TF_Status* status) { return status->code; }
const char* TF_Message(const TF_Status* status) { return status->message.c_str(); }

void TF_DeleteTensor(TF_Tensor* tensor) { delete tensor; }
TF_DataType TF_TensorType(const TF_Tensor* tensor) { return tensor->array.type; }
int TF_NumDims(const TF_Tensor* tensor) { return int(tensor->array.shape.size()); }
int64_t TF_Dim(const TF_Tensor* tensor, int index) { return tensor->array.shape.at(size_t(index)); }
size_t TF_TensorByteSize(const TF_Tensor* tensor) { return tensor->array.bytes; }
void* TF_TensorData(const TF_Tensor* tensor) { return tensor->array.data.get(); }

TF_OpDefinitionBuilder* TF_NewOpDefinitionBuilder(const char*) { return new TF_OpDefinitionBuilder; }
void TF_RegisterOpDefinition(TF_OpDefinitionBuilder* builder, TF_Status*) { delete builder; }
void TF_OpDefinitionBuilderAddAttr(TF_OpDefinitionBuilder*, const char*) {}
void TF_OpDefinitionBuilderAddInput(TF_OpDefinitionBuilder*, const char*) {}
void TF_OpDefinitionBuilderAddOutput(TF_OpDefinitionBuilder*, const char*) {}
void TF_OpDefinitionBuilderSetShapeInferenceFunction(TF_OpDefinitionBuilder*,
                                                     void (*)(TF_ShapeInferenceContext*, TF_Status*)) {}
void TF_ShapeInferenceContextSetUnknownShape(TF_ShapeInferenceContext*, TF_Status*) {}

TF_KernelBuilder* TF_NewKernelBuilder(const char* operation, const char*,
                                      void* (*create)(TF_OpKernelConstruction*),
                                      void (*compute)(void*, TF_OpKernelContext*),
                                      void (*destroy)(void*)) {
  return new TF_KernelBuilder{operation, 0, create, compute, destroy};
}
void TF_KernelBuilder_TypeConstraint(TF_KernelBuilder* builder, const char*, TF_DataType type,
                                     TF_Status*) {
  builder->type = type;
}
void TF_RegisterKernelBuilder(const char*, TF_KernelBuilder* builder, TF_Status*) {
  stand_in::kernels()[{builder->operation, builder->type}] = *builder;
  delete builder;
}
void TF_OpKernelConstruction_Failure(TF_OpKernelConstruction*, TF_Status*) { std::abort(); }
void TF_OpKernelConstruction_GetAttrBool(TF_OpKernelConstruction* construction, const char*,
                                         unsigned char* value, TF_Status*) {
  *value = construction->training;
}

int TF_NumInputs(TF_OpKernelContext* context) { return int(context->inputs.size()); }
void TF_GetInput(TF_OpKernelContext* context, int index, TF_Tensor** tensor, TF_Status*) {
  *tensor = new TF_Tensor{context->inputs.at(size_t(index))};
}
TF_Tensor* TF_AllocateOutput(TF_OpKernelContext* context, int index, TF_DataType type,
                             const int64_t* dims, int ndims, size_t bytes, TF_Status* status) {
  std::vector<Array>& outputs = context->answer.outputs;
  if (index != int(outputs.size())) std::abort();
  try {
    outputs.push_back(stand_in::make(type, std::vector<int64_t>(dims, dims + ndims)));
  } catch (const std::bad_alloc&) {
    *status = {TF_RESOURCE_EXHAUSTED, "no room"};
    return nullptr;
  }
  if (outputs.back().bytes != bytes) std::abort();
  return new TF_Tensor{outputs.back()};
}
void TF_OpKernelContext_Failure(TF_OpKernelContext* context, TF_Status* status) {
  context->answer.code = status->code;
  context->answer.message = status->message;
}

}  // extern "C"
