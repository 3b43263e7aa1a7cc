// cancellation.hpp - the wish to stop a migration, an operator's or the target's, while that is still
// possible.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "base/result.hpp"

namespace lifeboat {

class Cancellation {
 public:
  // While it lives, request() calls what it was made with.
  class Hook {
   public:
    explicit Hook(Cancellation* owner) : owner_(owner) {}
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;
    ~Hook() { owner_->interrupt_ = nullptr; }

   private:
    Cancellation* owner_;
  };

  // Makes what is going on fail soon, with this reason. kConflict after the point of no return.
  Status request(std::string reason) {
    if (too_late_) {
      return fail(Errc::kConflict, "the migration has passed its point of no return; it will be "
                                   "over in a moment");
    }
    if (!requested_) reason_ = std::move(reason);
    requested_ = true;
    if (interrupt_) interrupt_();
    return {};
  }
  [[nodiscard]] bool requested() const { return requested_; }
  // kCancelled once it was requested.
  [[nodiscard]] Status check() const {
    if (!requested_) return {};
    return fail(Errc::kCancelled, reason_);
  }
  // How to wake up what is being waited for (at once, if it was requested before); one at a time.
  // What `interrupt` refers to must outlive the hook.
  [[nodiscard]] Hook on_request(std::function<void()> interrupt) {
    interrupt_ = std::move(interrupt);
    if (requested_) interrupt_();
    return Hook(this);
  }
  // From here on request() is refused.
  Status pass_point_of_no_return() {
    auto status = check();
    if (status) too_late_ = true;
    return status;
  }

 private:
  bool requested_ = false;
  bool too_late_ = false;
  std::string reason_;
  std::function<void()> interrupt_;
};

}  // namespace lifeboat
