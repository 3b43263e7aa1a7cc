#include "migration_queue.hpp"

#include <algorithm>
#include <map>

namespace lifeboat {

void MigrationQueue::add(const std::string& id, const std::string& fabric) {
  Entry entry;
  entry.id = id;
  entry.fabric = fabric;
  entries_.push_back(std::move(entry));
}

bool MigrationQueue::start(const std::string& id, double now_s) {
  std::size_t leaving = this->leaving();
  std::map<std::string, std::size_t> on_fabric;
  for (const Entry& entry : entries_) on_fabric[entry.fabric] += entry.leaving ? 1 : 0;
  for (Entry& entry : entries_) {
    if (entry.leaving) continue;
    if (leaving >= limits_.leaving) return false;
    if (entry.not_before_s > now_s || on_fabric[entry.fabric] >= limits_.per_fabric) {
      if (entry.id == id) return false;
      continue;
    }
    if (entry.id == id) {
      entry.leaving = true;
      return true;
    }
    ++leaving;  // it takes its place the next time it asks
    ++on_fabric[entry.fabric];
  }
  return false;
}

void MigrationQueue::put_off(const std::string& id, double until_s) {
  for (Entry& entry : entries_) {
    if (entry.id != id) continue;
    entry.leaving = false;
    entry.not_before_s = until_s;
  }
}

void MigrationQueue::remove(const std::string& id) {
  std::erase_if(entries_, [&](const Entry& entry) { return entry.id == id; });
}

std::size_t MigrationQueue::position(const std::string& id) const {
  std::size_t position = 0;
  for (const Entry& entry : entries_) {
    if (!entry.leaving) ++position;
    if (entry.id == id) return entry.leaving ? 0 : position;
  }
  return 0;
}

std::vector<std::string> MigrationQueue::ahead(const std::string& id) const {
  const auto self = std::find_if(entries_.begin(), entries_.end(),
                                 [&](const Entry& entry) { return entry.id == id; });
  std::vector<std::string> found;
  if (self == entries_.end()) return found;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry == self || entry->fabric != self->fabric) continue;
    if (entry->leaving || entry < self) found.push_back(entry->id);
  }
  return found;
}

std::size_t MigrationQueue::leaving() const {
  return static_cast<std::size_t>(
      std::count_if(entries_.begin(), entries_.end(), [](const Entry& e) { return e.leaving; }));
}

bool ArrivalGate::admit(const std::string& id, std::size_t arriving, double now_s) {
  std::erase_if(waiting_, [&](const Waiting& other) {
    return other.id != id && now_s - other.asked_s > kPatienceS;
  });
  const auto at = std::find_if(waiting_.begin(), waiting_.end(),
                               [&](const Waiting& other) { return other.id == id; });
  const auto before = static_cast<std::size_t>(at - waiting_.begin());
  if (arriving + before < limit_) {
    if (at != waiting_.end()) waiting_.erase(at);
    return true;
  }
  if (at != waiting_.end()) {
    at->asked_s = now_s;
  } else {
    Waiting waiting;
    waiting.id = id;
    waiting.asked_s = now_s;
    waiting_.push_back(std::move(waiting));
  }
  return false;
}

bool ArrivalGate::ask_again(const std::string& id, double now_s) {
  const auto at = std::find_if(without_room_.begin(), without_room_.end(),
                               [&](const Waiting& other) { return other.id == id; });
  if (at != without_room_.end()) return now_s - at->asked_s <= kRoomS;
  std::erase_if(without_room_,
                [&](const Waiting& other) { return now_s - other.asked_s > kRoomS + kPatienceS; });
  Waiting first;
  first.id = id;
  first.asked_s = now_s;
  without_room_.push_back(std::move(first));
  return true;
}

}  // namespace lifeboat
