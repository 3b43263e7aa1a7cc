// gathered.hpp - what is costly to gather and asked for by many, as by everyone who watches the page: one of them
// gathers it for all, and not again while it is new enough.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/blocking.hpp"

namespace lifeboat {

template <class T>
class Gathered {
 public:
  // What `gather` gives counts as new for so long.
  Gathered(Milliseconds lasts, std::function<awaitable<T>()> gather) : lasts_(lasts), gather_(std::move(gather)) {}

  // Another `reason` than the last one's is a reason to gather again.
  awaitable<std::shared_ptr<const T>> get(std::string reason = "") {
    const AsyncMutex::Lock turn = co_await gathering_.lock();
    if (!value_ || reason != reason_ || SteadyClock::now() - at_ >= lasts_) {
      T fresh = co_await gather_();
      value_ = std::make_shared<const T>(std::move(fresh));
      reason_ = std::move(reason);
      at_ = SteadyClock::now();
    }
    co_return value_;
  }

 private:
  Milliseconds lasts_;
  std::function<awaitable<T>()> gather_;
  AsyncMutex gathering_;
  std::shared_ptr<const T> value_;
  SteadyClock::time_point at_;
  std::string reason_;
};

}  // namespace lifeboat
