// migration_queue.hpp - whose turn it is: migrations that wait to leave this node, and which of
// those that want to come may. Pure: times are given, nothing is started here.
//
// Nobody holds one place while waiting for another: a migration that the target turns away gives
// its place at the source back, goes on waiting where it stood in the line, and asks again. So two
// nodes that exchange containers at their limits, or three in a ring, cannot block each other.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace lifeboat {

struct QueueLimits {
  std::size_t leaving = 4;     // at the same time
  std::size_t per_fabric = 4;  // of these, over one fabric
};

// Migrations of one source, in the order of the requests.
class MigrationQueue {
 public:
  explicit MigrationQueue(QueueLimits limits) : limits_(limits) {}

  void add(const std::string& id, const std::string& fabric);
  // Whether it is this one's turn; from then on it counts as leaving. An earlier one goes first,
  // unless it must wait for its fabric or was put off.
  bool start(const std::string& id, double now_s);
  // It has not left after all: it waits again, at its old place, and may start from `until_s` on.
  void put_off(const std::string& id, double until_s);
  void remove(const std::string& id);

  // 1: next. 0: it does not wait (any more).
  [[nodiscard]] std::size_t position(const std::string& id) const;
  // Those that leave, and those that wait before this one, over the same fabric.
  [[nodiscard]] std::vector<std::string> ahead(const std::string& id) const;
  [[nodiscard]] std::size_t leaving() const;

 private:
  struct Entry {
    std::string id;
    std::string fabric;
    bool leaving = false;
    double not_before_s = 0;
  };
  std::vector<Entry> entries_;
  QueueLimits limits_;
};

// At the target: who asks first comes in first, as long as he goes on asking.
class ArrivalGate {
 public:
  explicit ArrivalGate(std::size_t limit) : limit_(limit) {}
  // Whether this migration may come in while `arriving` others do.
  bool admit(const std::string& id, std::size_t arriving, double now_s);
  // Whether this migration, which finds no room although nothing leaves, is to ask again: for a second,
  // since nodes that exchange their containers are told so one after the other.
  bool ask_again(const std::string& id, double now_s);

 private:
  static constexpr double kRoomS = 1;
  // Sources ask four times a second; one that has not for so long has given up.
  static constexpr double kPatienceS = 3;
  struct Waiting {
    std::string id;
    double asked_s = 0;
  };
  std::vector<Waiting> waiting_;
  std::vector<Waiting> without_room_;  // when they asked first
  std::size_t limit_;
};

}  // namespace lifeboat
