// The operators: memory, views and copies are the device's own, all others the host computes.

#include <ATen/EmptyTensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <set>
#include <string>

#include "copies.h"
#include "generators.h"

namespace simulated {
namespace {

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

// ---- memory -------------------------------------------------------------------------------

c10::Device device_for(std::optional<c10::Device> device, std::optional<c10::Layout> layout,
                       std::optional<bool> pinned) {
  TORCH_CHECK(c10::layout_or_default(layout) == c10::kStrided, "only strided tensors are simulated");
  TORCH_CHECK(!pinned.value_or(false), "only memory of the host can be pinned");
  return c10::device_or_default(device);
}

at::Tensor empty(
    c10::IntArrayRef sizes, std::optional<c10::ScalarType> type, std::optional<c10::Layout> layout,
    std::optional<c10::Device> device, std::optional<bool> pinned,
    std::optional<c10::MemoryFormat> format) {
  const c10::DeviceGuard guard(device_for(device, layout, pinned));
  return at::detail::empty_generic(
      sizes, c10::GetAllocator(kType), kKeys, c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(
    c10::IntArrayRef sizes, c10::IntArrayRef strides, std::optional<c10::ScalarType> type,
    std::optional<c10::Layout> layout, std::optional<c10::Device> device,
    std::optional<bool> pinned) {
  const c10::DeviceGuard guard(device_for(device, layout, pinned));
  return at::detail::empty_strided_generic(
      sizes, strides, c10::GetAllocator(kType), kKeys, c10::dtype_or_default(type));
}

const at::Tensor& resize_(
    const at::Tensor& self, c10::IntArrayRef sizes, std::optional<c10::MemoryFormat> format) {
  synchronize_device(self.device().index());  // its old memory may be in use
  const c10::DeviceGuard guard(self.device());
  return at::native::resize_(self, sizes, format);
}

at::Tensor& set_storage_(at::Tensor& self, at::Storage source) {
  return at::native::set_(self, std::move(source));
}

void record_stream(at::Tensor& self, c10::Stream stream) {
  c10::getDeviceAllocator(kType)->recordStream(self.storage().data_ptr(), stream);
}

// ---- copies -------------------------------------------------------------------------------

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool non_blocking) {
  copy(to, self, non_blocking);
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  if (self.sizes() != to.sizes()) to.resize_(self.sizes());
  copy(to, self, /*non_blocking=*/false);
  return to;
}

// Copies for the host's kernels, with the strides that the tensors have on the device: a kernel
// may sum in another order where they differ. What a stride of 0 repeats is copied once.
std::vector<at::Tensor> to_cpu(at::TensorList tensors) {
  std::vector<at::Tensor> copies;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.is_cpu()) {
      copies.push_back(tensor);
      continue;
    }
    at::Tensor once = tensor;
    for (int64_t axis = 0; axis < tensor.dim(); ++axis) {
      if (tensor.stride(axis) == 0 && tensor.size(axis) > 1) once = once.narrow(axis, 0, 1);
    }
    const at::Tensor host =
        at::detail::empty_strided_cpu(once.sizes(), once.strides(), once.scalar_type());
    copy(host, once, /*non_blocking=*/false);
    copies.push_back(host.as_strided(tensor.sizes(), tensor.strides(), 0));
  }
  return copies;
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  at::Tensor host = at::detail::empty_cpu({}, self.scalar_type());
  copy(host, self.reshape({}), /*non_blocking=*/false);
  return host.item();
}

at::Tensor& fill_scalar_(at::Tensor& self, const at::Scalar& value) {
  fill(self, value);
  return self;
}

at::Tensor& zero_(at::Tensor& self) {
  fill(self, 0);
  return self;
}

// ---- the rest, on the host ----------------------------------------------------------------

// Those that take tensors of the host beside the device's, as their CUDA kernels do: indices,
// and lengths that the host has to know.
bool takes_host_tensors(const std::string& name) {
  static const std::set<std::string> names = {
      "aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_",
      "aten::_index_put_impl_", "aten::_unsafe_index_put", "aten::_ctc_loss",
      "aten::_pack_padded_sequence"};
  return names.count(name) > 0;
}

template <typename Function>
void each_tensor(const c10::IValue& value, const Function& function) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) function(value.toTensor());
  } else if (value.isTensorList() || value.isOptionalTensorList()) {
    for (const c10::IValue& item : value.toListRef()) each_tensor(item, function);
  }
}

// The device that an operator's tensors are on; throws if they are on more than one. A tensor
// of the host with no dimensions counts as a number.
std::optional<c10::Device> common_device(
    const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments) {
  std::optional<c10::Device> common;
  std::optional<c10::Device> other;
  for (const c10::IValue& argument : arguments) {
    each_tensor(argument, [&](const at::Tensor& tensor) {
      if (tensor.is_cpu() && (tensor.dim() == 0 || takes_host_tensors(op.schema().name()))) return;
      if (!common) {
        common = tensor.device();
      } else if (*common != tensor.device()) {
        other = tensor.device();
      }
    });
    if (argument.isDevice() && !common) common = argument.toDevice();
  }
  TORCH_CHECK(
      !other, "Expected all tensors to be on the same device, but found at least two devices, ",
      *common, " and ", *other, "! (when computing ", op.schema().operator_name(), ")");
  return common;
}

// Draws from the device's generator where the host's kernel would draw from the host's.
void use_device_generator(
    const c10::OperatorHandle& op, torch::jit::Stack* stack, c10::Device device) {
  const auto index =
      device.has_index() ? device.index() : c10::impl::getDeviceGuardImpl(kType)->getDevice().index();
  const auto& arguments = op.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto optional = arguments[i].type()->cast<c10::OptionalType>();
    if (!optional || optional->getElementType()->kind() != c10::TypeKind::GeneratorType) continue;
    c10::IValue& value = (*stack)[stack->size() - arguments.size() + i];
    const at::Generator generator =
        value.isNone() ? default_generator(index) : value.toGenerator();
    TORCH_CHECK(
        generator.device().type() == kType, "Expected a '", device.type(),
        "' device type for generator but found '", generator.device().type(), "'");
    value = static_cast<Generator*>(generator.unsafeGetGeneratorImpl())->host();
  }
}

// A result that cpu_fallback left on the host: it goes by the first tensor, which may be a number.
c10::IValue on_device(const c10::IValue& result, c10::Device device) {
  if (result.isTensor() && result.toTensor().defined()) return result.toTensor().to(device);
  if (result.isTensorList()) {
    std::vector<at::Tensor> moved;
    for (const at::Tensor& tensor : result.toTensorVector()) moved.push_back(tensor.to(device));
    return moved;
  }
  return result;
}

// Copies an operator's tensors to the host, lets its CPU kernel compute and copies the results
// back, all in the order of the current stream. Views are refused: one would be a copy.
void on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto device = common_device(op, torch::jit::last(*stack, schema.arguments().size()));
  const bool simulated = device && device->type() == kType;
  if (simulated) use_device_generator(op, stack, *device);
  const ForFallback for_fallback;
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
  if (!simulated) return;
  const size_t first = stack->size() - schema.returns().size();
  for (size_t i = 0; i < schema.returns().size(); ++i) {
    if (schema.returns()[i].alias_info() != nullptr) continue;  // an argument, where it was
    (*stack)[first + i] = on_device((*stack)[first + i], *device);
  }
}

// Operators that would come apart into ones that only CUDA has, or that have no kernel for a
// device that torch does not know: the host computes each as a whole.
constexpr const char* kWhole[] = {
    "convolution", "convolution_backward", "_convolution", "native_layer_norm",
    "native_group_norm", "lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input",
    "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"};

}  // namespace

// A copy takes views that are conjugated or negated only when read as they are; torch would make
// a plain copy first, and so call itself for ever.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_host>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("resize_", resize_);
  m.impl("set_.source_Tensor", at::native::set_tensor_);
  m.impl("set_.source_Storage", set_storage_);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  m.impl("record_stream", record_stream);

  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("view_as_complex", at::native::view_as_complex);

  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_to_cpu", to_cpu);
  m.impl("_local_scalar_dense", local_scalar_dense);
  m.impl("fill_.Scalar", fill_scalar_);
  m.impl("zero_", zero_);

  for (const char* name : kWhole) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&on_host>());
  }
}

}  // namespace simulated
