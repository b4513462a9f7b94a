// The memory of the devices, each with a budget of its own, and pinned memory of the host.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StorageImpl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "streams.h"

namespace simulated {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
constexpr size_t kBlock = 512;  // bytes that an allocation is rounded up to, as torch.cuda's
constexpr size_t kPage = 4096;

// What fresh memory is filled with. Read as floating point it is NaN, so that a result computed
// from data that has not arrived shows.
constexpr int kUnwritten = 0xFF;

// Pieces of memory by address, to find the one that a pointer points into.
template <typename Value>
class Ranges {
 public:
  void add(void* start, size_t bytes, Value value) {
    std::lock_guard<std::mutex> lock(mutex_);
    pieces_.emplace(reinterpret_cast<uintptr_t>(start), Piece{bytes, std::move(value)});
  }
  // Takes a piece out and returns its value, to be destroyed without the lock.
  Value remove(void* start) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = pieces_.find(reinterpret_cast<uintptr_t>(start));
    Value value = std::move(found->second.value);
    pieces_.erase(found);
    return value;
  }
  std::optional<Value> find(const void* pointer) {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    std::lock_guard<std::mutex> lock(mutex_);
    auto after = pieces_.upper_bound(address);
    if (after == pieces_.begin()) return std::nullopt;
    auto& [start, piece] = *std::prev(after);
    if (address - start >= piece.bytes) return std::nullopt;
    return piece.value;
  }

 private:
  struct Piece {
    size_t bytes;
    Value value;
  };
  std::mutex mutex_;
  std::map<uintptr_t, Piece> pieces_;
};

inline size_t& memory_budget() {  // bytes, of each device
  static size_t bytes = 0;
  return bytes;
}

// Counts what is allocated on each device and refuses what goes beyond the budget.
class Accounts {
 public:
  bool fits(int device, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    return stats_.at(device).allocated_bytes[0].current + bytes <= memory_budget();
  }
  void take(int device, size_t requested, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& stats = stats_.at(device);
    const size_t used = stats.allocated_bytes[0].current;
    if (used + bytes > memory_budget()) {
      ++stats.num_ooms;
      TORCH_CHECK_WITH(
          OutOfMemoryError, false, "simulated device ", device, " is out of memory: tried to allocate ",
          bytes, " bytes; ", memory_budget() - used, " of ", memory_budget(), " are free");
    }
    ++stats.num_device_alloc;
    stats.allocation[0].increase(1);
    stats.segment[0].increase(1);
    stats.active[0].increase(1);
    stats.allocated_bytes[0].increase(bytes);
    stats.reserved_bytes[0].increase(bytes);
    stats.active_bytes[0].increase(bytes);
    stats.requested_bytes[0].increase(requested);
  }
  void give_back(int device, size_t requested, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& stats = stats_.at(device);
    ++stats.num_device_free;
    stats.allocation[0].decrease(1);
    stats.segment[0].decrease(1);
    stats.active[0].decrease(1);
    stats.allocated_bytes[0].decrease(bytes);
    stats.reserved_bytes[0].decrease(bytes);
    stats.active_bytes[0].decrease(bytes);
    stats.requested_bytes[0].decrease(requested);
  }
  template <typename Function>
  auto with(int device, Function function) {
    std::lock_guard<std::mutex> lock(mutex_);
    return function(stats_.at(device));
  }

 private:
  std::mutex mutex_;
  std::array<c10::CachingDeviceAllocator::DeviceStats, kMaxDevices> stats_{};
};

inline Accounts& accounts() {
  static auto* all = new Accounts();
  return *all;
}

// One allocation on a device. It ends when the tensor's storage has dropped it and every stream
// that it was recorded on has come past that point.
class Allocation {
 public:
  Allocation(int device, size_t requested)
      : device_(device), requested_(requested), bytes_((requested + kBlock - 1) / kBlock * kBlock) {
    // Memory that queued work keeps is waited for, unless a hold would make that for ever.
    if (!accounts().fits(device_, bytes_) && !any_held()) synchronize_device(device_);
    accounts().take(device_, requested_, bytes_);
    pointer_ = std::aligned_alloc(kBlock, bytes_);
    if (pointer_ == nullptr) {
      accounts().give_back(device_, requested_, bytes_);
      throw std::bad_alloc();
    }
    std::memset(pointer_, kUnwritten, bytes_);
  }
  ~Allocation() {
    std::free(pointer_);
    accounts().give_back(device_, requested_, bytes_);
  }
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;

  void* pointer() const { return pointer_; }
  size_t bytes() const { return bytes_; }
  int device() const { return device_; }

  void used_on(Stream* stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    streams_.push_back(stream);
  }
  std::vector<Stream*> users() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(streams_, {});
  }

 private:
  int device_;
  size_t requested_;
  size_t bytes_;
  void* pointer_ = nullptr;
  std::mutex mutex_;
  std::vector<Stream*> streams_;
};

inline Ranges<std::shared_ptr<Allocation>>& allocations() {
  static auto* all = new Ranges<std::shared_ptr<Allocation>>();
  return *all;
}

inline void free_on_device(void* pointer) {
  if (pointer == nullptr) return;
  std::shared_ptr<Allocation> allocation = allocations().remove(pointer);
  for (Stream* stream : allocation->users()) {
    stream->enqueue_short([allocation] {});
  }
}

// Nothing is cached: what is given back is free at once, and what is reserved is in use.
class DeviceMemory final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device = c10::impl::getDeviceGuardImpl(kType)->getDevice();
    if (bytes == 0) return {nullptr, device};
    auto allocation = std::make_shared<Allocation>(device.index(), bytes);
    void* pointer = allocation->pointer();
    allocations().add(pointer, allocation->bytes(), allocation);
    return {pointer, pointer, &free_on_device, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_on_device; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t = {0, 0}) override {}
  void recordStream(const c10::DataPtr& data, c10::Stream stream) override {
    if (auto allocation = allocations().find(data.get())) {
      (*allocation)->used_on(&stream_of(stream.device_index(), stream.id()));
    }
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    return accounts().with(device, [](auto& stats) { return stats; });
  }
  void resetAccumulatedStats(c10::DeviceIndex device) override {
    each(device, [](auto& stat) { stat.reset_accumulated(); });
  }
  void resetPeakStats(c10::DeviceIndex device) override {
    each(device, [](auto& stat) { stat.reset_peak(); });
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {  // free, total
    const size_t used =
        accounts().with(device, [](auto& stats) { return stats.allocated_bytes[0].current; });
    return {memory_budget() - used, memory_budget()};
  }

 private:
  template <typename Function>
  void each(c10::DeviceIndex device, Function function) {
    accounts().with(device, [&](auto& stats) {
      for (auto* stat :
           {&stats.allocation, &stats.segment, &stats.active, &stats.allocated_bytes,
            &stats.reserved_bytes, &stats.active_bytes, &stats.requested_bytes}) {
        function((*stat)[0]);
      }
    });
  }
};

// Gives a storage of a device another size. Its old memory is given up at once, so whatever is
// queued is waited for first: it may be using it.
inline void resize_storage(c10::StorageImpl& storage, size_t bytes) {
  synchronize_device(storage.device().index());
  const c10::DeviceGuard guard(storage.device());
  c10::DataPtr fresh = storage.allocator()->allocate(bytes);
  const size_t kept = std::min(bytes, storage.nbytes());
  if (kept > 0) std::memcpy(fresh.get(), storage.data(), kept);
  storage.set_data_ptr_noswap(std::move(fresh));
  storage.set_nbytes(bytes);
}

inline Ranges<bool>& pinned_ranges() {
  static auto* all = new Ranges<bool>();
  return *all;
}

inline bool is_pinned(const void* pointer) { return pinned_ranges().find(pointer).has_value(); }

inline void free_pinned(void* pointer) {
  if (pointer == nullptr) return;
  pinned_ranges().remove(pointer);
  std::free(pointer);
}

// Host memory that copies need not wait for. Nothing is really locked: what counts is that the
// device knows it, and so does as a real one would.
class PinnedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, c10::Device(c10::DeviceType::CPU)};
    void* pointer = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
    if (pointer == nullptr) throw std::bad_alloc();
    pinned_ranges().add(pointer, bytes, true);
    return {pointer, pointer, &free_pinned, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_pinned; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace simulated
