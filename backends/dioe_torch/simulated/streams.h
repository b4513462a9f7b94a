// Streams and events: work that one thread does in order, and marks in it.
//
// Nothing here knows of tensors. A task is any function; what it captures stays alive until it
// has run, which is how memory in use is kept from being given out again.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include <pthread.h>

// Three functions of Python's stable ABI, declared here so that no Python headers are needed.
extern "C" {
int PyGILState_Check(void);
void* PyEval_SaveThread(void);
void PyEval_RestoreThread(void*);
}

namespace simulated {

using Task = std::function<void()>;
using Clock = std::chrono::steady_clock;

// Gives up Python's lock, if this thread has it, for as long as the thread waits: the last task
// to use an array of numpy's needs that lock to give the array back.
class WithoutGil {
 public:
  WithoutGil() : state_(PyGILState_Check() ? PyEval_SaveThread() : nullptr) {}
  ~WithoutGil() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  void* state_;
};

// One point in a stream's work. Recording an event again makes a new mark, so that whoever
// waits for the old one isn't held up by the new.
class Mark {
 public:
  void reach() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      reached_ = true;
      when_ = Clock::now();
    }
    changed_.notify_all();
  }
  bool reached() {
    std::lock_guard<std::mutex> lock(mutex_);
    return reached_;
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return reached_; });
  }
  Clock::time_point when() {
    std::lock_guard<std::mutex> lock(mutex_);
    return when_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false;
  Clock::time_point when_;
};

// A thread does not survive a fork; a child that waited for one would wait for ever.
inline bool& forked() {
  static bool in_child = false;
  static const int registered = pthread_atfork(nullptr, nullptr, [] { in_child = true; });
  (void)registered;
  return in_child;
}

class Stream {
 public:
  // Queues a task. What a task throws is thrown by the next call that waits for this stream.
  void enqueue(Task task) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (claim(lock, /*only_if_stopped=*/true)) {
      finish(task);
      return;
    }
    add(std::move(task));
  }

  // As enqueue, but done at once where nothing is before it: for tasks too short for a thread.
  void enqueue_short(Task task) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (claim(lock, /*only_if_stopped=*/false)) {
      finish(task);
      return;
    }
    add(std::move(task));
  }

  // Does a task in its turn and returns when it is done; throws what the task threw.
  void run(const Task& task) {
    WithoutGil without_gil;
    std::exception_ptr failure;
    Task guarded = [&] {
      try {
        task();
      } catch (...) {
        failure = std::current_exception();
      }
    };
    enqueue_short(guarded);
    wait();
    if (failure) std::rethrow_exception(failure);
  }

  // Waits for all that was queued before the call.
  void synchronize() {
    WithoutGil without_gil;
    wait();
  }

  bool idle() {
    std::lock_guard<std::mutex> lock(mutex_);
    return done_ == queued_;
  }

  // Marks the point that the work queued so far will have reached.
  std::shared_ptr<Mark> record() {
    auto mark = std::make_shared<Mark>();
    enqueue_short([mark] { mark->reach(); });
    return mark;
  }

  // Keeps back what is queued from now on until another stream's mark is reached.
  void wait_for(const std::shared_ptr<Mark>& mark) {
    if (!mark->reached()) {
      enqueue([mark] { mark->wait(); });
    }
  }

  // Starts nothing more until release(): how a test makes work pending and knows that it is.
  void hold() {
    std::lock_guard<std::mutex> lock(mutex_);
    held_ = true;
  }

  bool held() {
    std::lock_guard<std::mutex> lock(mutex_);
    return held_;
  }

  void release() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      held_ = false;
    }
    changed_.notify_all();
  }

  // Does what is left and ends the thread; later work is done by the thread that queues it.
  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopped_ = true;
      held_ = false;
    }
    changed_.notify_all();
    if (worker_.joinable()) worker_.join();
  }

 private:
  // Takes the turn for the calling thread, if nothing is queued, held or running. The thread of a
  // stopped stream may be doing its last tasks yet: then the caller waits for them.
  bool claim(std::unique_lock<std::mutex>& lock, bool only_if_stopped) {
    if (forked()) {
      throw std::runtime_error(
          "a simulated device does not work in a forked process: its streams are threads of the "
          "parent; start the process by spawn");
    }
    if (stopped_) {
      changed_.wait(lock, [this] { return queue_.empty() && !busy_; });
    } else if (only_if_stopped || held_ || busy_ || !queue_.empty()) {
      return false;
    }
    busy_ = true;
    ++queued_;
    lock.unlock();
    return true;
  }

  void add(Task task) {  // with the mutex held
    queue_.push_back(std::move(task));
    ++queued_;
    if (!worker_.joinable()) worker_ = std::thread([this] { work(); });
    changed_.notify_all();
  }

  // Does the task whose turn has been taken.
  void finish(Task& task) {
    std::exception_ptr failure;
    try {
      task();
    } catch (...) {
      failure = std::current_exception();
    }
    task = nullptr;  // what it kept alive is given back before the work counts as done
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (failure) failure_ = failure;
      busy_ = false;
      ++done_;
    }
    changed_.notify_all();
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] {
        return queue_.empty() ? stopped_ && !busy_ : !busy_ && !held_;
      });
      if (queue_.empty()) return;
      Task task = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      lock.unlock();
      finish(task);
      lock.lock();
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const uint64_t target = queued_;
    changed_.wait(lock, [&] { return done_ >= target; });
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> queue_;
  std::thread worker_;  // started by the first task that needs it
  uint64_t queued_ = 0;
  uint64_t done_ = 0;
  bool busy_ = false;
  bool held_ = false;
  bool stopped_ = false;
  std::exception_ptr failure_;
};

constexpr int kMaxDevices = 8;
constexpr int kStreams = 32;  // a device; given out in turn beyond that, as torch.cuda does

struct Device {
  std::array<Stream, kStreams> streams;  // the first is the default stream
  int next = 0;
};

// Never destroyed: a thread may still use a stream while the process ends.
inline std::array<Device, kMaxDevices>& all_devices() {
  static auto* devices = new std::array<Device, kMaxDevices>();
  return *devices;
}

inline int& device_count() {
  static int count = 0;
  return count;
}

inline Stream& stream_of(int device, int64_t stream) {
  return all_devices().at(device).streams.at(stream);
}

// A stream from the pool, the default one left out.
inline int64_t next_stream(int device) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  int& next = all_devices().at(device).next;
  next = next % (kStreams - 1) + 1;
  return next;
}

inline void synchronize_device(int device) {
  for (Stream& stream : all_devices().at(device).streams) stream.synchronize();
}

inline bool any_held() {
  for (Device& device : all_devices()) {
    for (Stream& stream : device.streams) {
      if (stream.held()) return true;
    }
  }
  return false;
}

// Every hold is lifted before any thread is waited for: one stream may wait for another's mark.
inline void stop_all() {
  if (forked()) return;
  for (Device& device : all_devices()) {
    for (Stream& stream : device.streams) stream.release();
  }
  for (Device& device : all_devices()) {
    for (Stream& stream : device.streams) stream.stop();
  }
}

}  // namespace simulated
