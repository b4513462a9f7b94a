// Copies between host and devices, in the order of the streams, and what they moved.
#pragma once

#include <ATen/MemoryOverlap.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>

#include "memory.h"

namespace simulated {

inline Stream& current_stream(c10::Device device) {
  const c10::Stream stream = c10::impl::getDeviceGuardImpl(kType)->getStream(device);
  return stream_of(stream.device_index(), stream.id());
}

enum Purpose { kPlanned, kFallback, kPurposes };       // who asked for a copy
enum Way { kToDevice, kToHost, kWithin, kPeer, kWays };  // from where to where

struct Count {
  std::atomic<int64_t> copies{0};
  std::atomic<int64_t> bytes{0};
};

inline Count (&counts())[kPurposes][kWays] {
  static Count all[kPurposes][kWays];
  return all;
}

inline Purpose& purpose() {
  thread_local Purpose current = kPlanned;
  return current;
}

// While it lives, the copies of this thread are those of an operator that the host computes.
class ForFallback {
 public:
  ForFallback() : before_(std::exchange(purpose(), kFallback)) {}
  ~ForFallback() { purpose() = before_; }
  ForFallback(const ForFallback&) = delete;
  ForFallback& operator=(const ForFallback&) = delete;

 private:
  Purpose before_;
};

inline void count(Way way, int64_t bytes) {
  Count& one = counts()[purpose()][way];
  ++one.copies;
  one.bytes += bytes;
}

// The same elements as a tensor of the host, which keeps the memory alive but not the tensor:
// dropping the last reference to a tensor that Python made would need Python's lock.
inline at::Tensor as_host(const at::Tensor& tensor) {
  c10::Storage storage = tensor.storage();
  at::Tensor host = at::from_blob(
      const_cast<void*>(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(),
      [storage = std::move(storage)](void*) {}, tensor.options().device(at::kCPU).pinned_memory({}));
  host._set_conj(tensor.is_conj());
  host._set_neg(tensor.is_neg());
  return host;
}

// Calls a function with pieces of tensors of one shape, each too small for torch to start a team
// of threads for it: every stream would get a team of its own.
template <typename Function>
void in_pieces(const std::vector<at::Tensor>& tensors, const Function& function) {
  constexpr int64_t kPiece = 32767;  // at::internal::GRAIN_SIZE - 1
  const at::Tensor& first = tensors.front();
  if (first.numel() <= kPiece) {
    function(tensors);
    return;
  }
  const auto sizes = first.sizes();
  const int64_t axis = std::max_element(sizes.begin(), sizes.end()) - sizes.begin();
  const int64_t half = sizes[axis] / 2;
  std::vector<at::Tensor> low, high;
  for (const at::Tensor& tensor : tensors) {
    low.push_back(tensor.narrow(axis, 0, half));
    high.push_back(tensor.narrow(axis, half, sizes[axis] - half));
  }
  in_pieces(low, function);
  in_pieces(high, function);
}

inline Task copying(const at::Tensor& to, const at::Tensor& from) {
  return [to = as_host(to), from = as_host(from)] {
    const c10::InferenceMode inference;
    const bool same_bytes = to.scalar_type() == from.scalar_type() &&
        to.strides() == from.strides() && to.is_non_overlapping_and_dense() &&
        to.is_conj() == from.is_conj() && to.is_neg() == from.is_neg();
    if (same_bytes) {
      std::memmove(to.mutable_data_ptr(), from.const_data_ptr(), to.nbytes());
    } else {
      in_pieces({to, from}, [](const auto& pieces) { pieces[0].copy_(pieces[1]); });
    }
  };
}

// Copies `from` into `to`, at least one of which is on a device. Copies between the host and a
// device take the device's current stream, and the host waits for them unless it asked not to
// and its memory is pinned. Copies from device memory to device memory never make the host wait.
inline void copy(const at::Tensor& to, const at::Tensor& source, bool non_blocking) {
  at::assert_no_internal_overlap(to);
  const at::Tensor from = source.expand(to.sizes());
  if (to.numel() == 0) return;
  // Of another type it is converted before it moves, as CUDA does.
  const auto bytes = static_cast<int64_t>(to.nbytes());
  Task task = copying(to, from);

  if (to.is_cpu() || from.is_cpu()) {
    const at::Tensor& host = to.is_cpu() ? to : from;
    const at::Tensor& device = to.is_cpu() ? from : to;
    count(to.is_cpu() ? kToHost : kToDevice, bytes);
    Stream& stream = current_stream(device.device());
    if (non_blocking && is_pinned(host.const_data_ptr())) {
      stream.enqueue(std::move(task));
    } else {
      stream.run(task);
    }
  } else if (to.device() == from.device()) {
    count(kWithin, bytes);
    current_stream(to.device()).enqueue(std::move(task));
  } else {
    // On the source's stream, after what the destination's has queued and before what it will.
    count(kPeer, bytes);
    Stream& source_stream = current_stream(from.device());
    Stream& target_stream = current_stream(to.device());
    source_stream.wait_for(target_stream.record());
    source_stream.enqueue(std::move(task));
    target_stream.wait_for(source_stream.record());
  }
}

inline void fill(const at::Tensor& tensor, const at::Scalar& value) {
  at::assert_no_internal_overlap(tensor);
  if (tensor.numel() == 0) return;
  current_stream(tensor.device()).enqueue([host = as_host(tensor), value] {
    const c10::InferenceMode inference;
    in_pieces({host}, [&](const auto& pieces) { pieces[0].fill_(value); });
  });
}

}  // namespace simulated
