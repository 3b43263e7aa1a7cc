#include "criu_glue/fork_counter.hpp"

#include <unistd.h>

#include <string>

namespace lifeboat {

Result<ForkCounter> ForkCounter::open() {
  using namespace bpf;
  TRY(const KernelTypes types, KernelTypes::load());
  TRY(const int nsproxy, types.offset_of("task_struct", "nsproxy"));
  TRY(const int children, types.offset_of("nsproxy", "pid_ns_for_children"));
  TRY(const int idr, types.offset_of("pid_namespace", "idr"));
  TRY(const int next, types.offset_of("idr", "idr_next"));
  constexpr int kSize = 8;
  const bpf_insn fill[] = {load(kA1, kThing, nsproxy), load(kA1, kA1, children), load_u32(kA1, kA1, idr + next),
                           store(kFrame, -kSize, kA1)};
  // struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; };
  constexpr int kTask = 8;
  TRY(BpfIterator task, BpfIterator::load(types, "bpf_iter_task", kTask, fill, kSize));
  return ForkCounter(std::move(task));
}

Result<std::uint64_t> ForkCounter::read(pid_t init) const {
  // The kernel tells of the namespace that its children get.
  const auto place = [init](const char* name) {
    char text[64] = {};
    const std::string path = "/proc/" + std::to_string(init) + "/ns/" + name;
    return ::readlink(path.c_str(), text, sizeof text - 1) > 0 ? std::string(text) : std::string();
  };
  const std::string own = place("pid");
  if (own.empty() || own != place("pid_for_children")) {
    return fail(Errc::kUnavailable, "process " + std::to_string(init) + " begins others in another pid namespace");
  }
  TRY(const std::vector<std::uint64_t> told, task_.read(init));
  if (told.size() != 1) return fail(Errc::kNotFound, "there is no process " + std::to_string(init));
  return told.front();
}

}  // namespace lifeboat
