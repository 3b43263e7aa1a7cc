// memory_account.hpp - memory promised to containers that are arriving here and have not used it
// yet. What is free (MemAvailable) says nothing of it: without this account two arrivals at once
// would be promised the same bytes.
//
// Used from the event loop only.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "base/result.hpp"

namespace lifeboat {

class MemoryAccount {
 private:
  struct Entry {
    std::uint64_t bytes = 0;
    std::function<std::uint64_t()> used;
  };
  using Entries = std::list<Entry>;

 public:
  // A promise; dropping it ends it. May outlive the account.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept : entries_(std::move(other.entries_)), at_(other.at_) {}
    Reservation& operator=(Reservation&& other) noexcept {
      std::swap(entries_, other.entries_);
      std::swap(at_, other.at_);
      return *this;
    }
    ~Reservation() {
      if (entries_) entries_->erase(at_);
    }
    // Asked when others want memory: bytes of the promise that are in use, and so not free any
    // more. Nothing, before this is called.
    void count_used_by(std::function<std::uint64_t()> used) {
      if (entries_) at_->used = std::move(used);
    }
    [[nodiscard]] std::uint64_t bytes() const { return entries_ ? at_->bytes : 0; }

   private:
    friend class MemoryAccount;
    Reservation(std::shared_ptr<Entries> entries, Entries::iterator at)
        : entries_(std::move(entries)), at_(at) {}
    std::shared_ptr<Entries> entries_;
    Entries::iterator at_{};
  };

  // `available`: free now. kRefused when that is not enough, kConflict when it is not because of what
  // is promised to others: there will be more once they have arrived.
  Result<Reservation> reserve(std::uint64_t bytes, std::uint64_t available);

  // Promised and not in use yet.
  [[nodiscard]] std::uint64_t promised() const;

 private:
  std::shared_ptr<Entries> entries_ = std::make_shared<Entries>();
};

}  // namespace lifeboat
