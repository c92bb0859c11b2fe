// SPDX-License-Identifier: Apache-2.0
// A pool of threads: made at the first call, asleep between calls.
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "potential.h"

#if !defined(DEEPSPIN_SOURCES)
#define DEEPSPIN_SOURCES "unknown"
#endif

// read by deepspin/op/sources.py
extern "C" {
extern const char deepspin_sources[];
const char deepspin_sources[] = "deepspin sources: " DEEPSPIN_SOURCES;
}

namespace deepspin {
namespace {

struct Job {
  const std::function<void(int)>* work;
  int count, helpers;  // helpers: workers that may still join
  std::atomic<int> next{0};
  int busy = 0;              // workers within `take`
  std::exception_ptr error;  // what was thrown first
};

class Pool {
 public:
  explicit Pool(pid_t pid) : pid_(pid) {}

  void run(int threads, int count, const std::function<void(int)>& work) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn.owns_lock()) {  // another operation has the pool
      for (int i = 0; i < count; ++i) work(i);
      return;
    }
    int helpers = (threads < count ? threads : count) - 1;
    while (workers_ < helpers && start()) ++workers_;
    Job job;
    job.work = &work;
    job.count = count;
    job.helpers = helpers < workers_ ? helpers : workers_;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
    }
    wake_.notify_all();
    take(job);
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = nullptr;
    done_.wait(lock, [&] { return job.busy == 0; });
    if (job.error) std::rethrow_exception(job.error);
  }

  bool after_fork() const { return pid_ != getpid(); }

 private:
  bool start() {
    try {
      std::thread([this] { serve(); }).detach();
    } catch (...) {  // no more threads: fewer do
      return false;
    }
    return true;
  }

  void take(Job& job) {  // throws nothing: others may be at work on the same job
    try {
      for (int i; (i = job.next.fetch_add(1)) < job.count;) (*job.work)(i);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!job.error) job.error = std::current_exception();
    }
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return job_ && job_->helpers > 0; });
      Job* job = job_;
      --job->helpers;
      ++job->busy;
      lock.unlock();
      take(*job);
      lock.lock();
      if (--job->busy == 0) done_.notify_one();
    }
  }

  const pid_t pid_;
  std::mutex turn_, mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  int workers_ = 0;
};

}  // namespace

void parallel(int threads, int count, const std::function<void(int)>& work) {
  if (threads < 2 || count < 2) {
    for (int i = 0; i < count; ++i) work(i);
    return;
  }
  static std::mutex mutex;
  static Pool* pool = nullptr;  // never destroyed: its threads outlive main()
  Pool* mine;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!pool || pool->after_fork()) pool = new Pool(getpid());
    mine = pool;
  }
  mine->run(threads, count, work);
}

}  // namespace deepspin
