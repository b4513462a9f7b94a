// The device to torch: which one is current, its streams and events, its hooks and its random
// numbers; and the few functions that Python calls by ctypes. The operators are in operators.cpp.

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "copies.h"
#include "generators.h"

namespace simulated {
namespace {

thread_local c10::DeviceIndex current_device = 0;
thread_local std::array<int64_t, kMaxDevices> current_streams{};

c10::DeviceIndex checked(c10::DeviceIndex index) {
  TORCH_CHECK(
      index >= 0 && index < device_count(), "there is no simulated device ", int(index), "; there are ",
      device_count());
  return index;
}

c10::DeviceIndex index_of(c10::Device device) {
  return device.has_index() ? checked(device.index()) : current_device;
}

c10::Device device_at(c10::DeviceIndex index) { return {kType, index}; }

c10::Stream stream_at(c10::DeviceIndex index, int64_t id) {
  return c10::Stream(c10::Stream::UNSAFE, device_at(index), id);
}

Stream& stream_of(const c10::Stream& stream) {
  return simulated::stream_of(stream.device_index(), stream.id());
}

// What an event's opaque pointer points to.
using Event = std::shared_ptr<Mark>;

Event& event_of(void* event) { return *static_cast<Event*>(event); }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }

  c10::Device getDevice() const override { return device_at(current_device); }
  c10::Device exchangeDevice(c10::Device device) const override {
    return device_at(std::exchange(current_device, checked(device.index())));
  }
  void setDevice(c10::Device device) const override { current_device = checked(device.index()); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0 && device.index() < device_count()) current_device = device.index();
  }

  c10::Stream getStream(c10::Device device) const override {
    const auto index = index_of(device);
    return stream_at(index, current_streams[index]);
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return stream_at(index_of(device), 0);
  }
  c10::Stream getNewStream(c10::Device device, int /*priority*/) const override {
    const auto index = index_of(device);
    return stream_at(index, next_stream(index));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool /*high*/) const override {
    return getNewStream(device, 0);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const auto index = checked(stream.device_index());
    return stream_at(index, std::exchange(current_streams[index], stream.id()));
  }
  bool queryStream(const c10::Stream& stream) const override { return stream_of(stream).idle(); }
  void synchronizeStream(const c10::Stream& stream) const override {
    stream_of(stream).synchronize();
  }
  void synchronizeDevice(c10::DeviceIndex index) const override {
    synchronize_device(index < 0 ? current_device : checked(index));
  }

  void record(
      void** event, const c10::Stream& stream, c10::DeviceIndex /*index*/,
      c10::EventFlag /*flag*/) const override {
    if (*event == nullptr) *event = new Event();
    event_of(*event) = stream_of(stream).record();
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event != nullptr) stream_of(stream).wait_for(event_of(event));
  }
  bool queryEvent(void* event) const override {
    return event == nullptr || event_of(event)->reached();
  }
  void synchronizeEvent(void* event) const override {
    if (event == nullptr) return;
    WithoutGil without_gil;
    event_of(event)->wait();
  }
  double elapsedTime(void* first, void* last, c10::DeviceIndex /*index*/) const override {
    using Milliseconds = std::chrono::duration<double, std::milli>;
    return Milliseconds(event_of(last)->when() - event_of(first)->when()).count();
  }
  void destroyEvent(void* event, c10::DeviceIndex /*index*/) const noexcept override {
    delete static_cast<Event*>(event);
  }

  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    c10::getDeviceAllocator(kType)->recordStream(data, stream);
  }
  c10::DeviceCapability getDeviceCapability(c10::Device) const override { return {}; }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count() > 0; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return device_count(); }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }
  void setCurrentDevice(c10::DeviceIndex index) const override { current_device = checked(index); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    return std::exchange(current_device, checked(index));
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return index < 0 ? current_device : exchangeDevice(index);
  }

  bool isPinnedPtr(const void* pointer) const override { return is_pinned(pointer); }
  at::Allocator* getPinnedMemoryAllocator() const override {
    static auto* memory = new PinnedMemory();
    return memory;
  }
  at::Device getDeviceFromPtr(void* pointer) const override {
    const auto allocation = allocations().find(pointer);
    TORCH_CHECK(allocation, "no simulated device has memory at ", pointer);
    return device_at((*allocation)->device());
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    resize_storage(*storage.unsafeGetStorageImpl(), bytes);
  }

  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    return default_generator(index < 0 ? current_device : checked(index));
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return at::make_generator<Generator>(index < 0 ? current_device : checked(index));
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

const bool registered = [] {
  c10::SetAllocator(kType, new DeviceMemory());
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  return true;
}();

}  // namespace
}  // namespace simulated

// What Python calls. Nothing here throws, and ctypes lets go of Python's lock during each call.
extern "C" {

// How many devices there are and how many bytes each has; before their first use.
void simulated_open(int devices, int64_t bytes) {
  simulated::device_count() = devices;
  simulated::memory_budget() = static_cast<size_t>(bytes);
}

// How many copies and bytes, for each purpose and way, in the order of copies.h.
void simulated_copies(int64_t* counts) {
  for (auto& ways : simulated::counts()) {
    for (auto& count : ways) {
      *counts++ = count.copies;
      *counts++ = count.bytes;
    }
  }
}

void simulated_reset_copies() {
  for (auto& ways : simulated::counts()) {
    for (auto& count : ways) count.copies = count.bytes = 0;
  }
}

void simulated_hold(int device, int64_t stream) { simulated::stream_of(device, stream).hold(); }

void simulated_release(int device, int64_t stream) {
  simulated::stream_of(device, stream).release();
}

void simulated_seed(int device, uint64_t seed) {
  at::Generator generator = simulated::default_generator(device);
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(seed);
}

bool simulated_forked() { return simulated::forked(); }

void simulated_stop() { simulated::stop_all(); }

}  // extern "C"
