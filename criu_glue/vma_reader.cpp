#include "criu_glue/vma_reader.hpp"

#include <cstddef>

namespace lifeboat {

Result<VmaReader> VmaReader::open() {
  using namespace bpf;
  TRY(const KernelTypes types, KernelTypes::load());
  constexpr int kSize = sizeof(Vma);
  std::vector<bpf_insn> fill;
  int at = -kSize;
  for (const char* name : {"vm_start", "vm_end", "vm_flags", "vm_pgoff"}) {
    TRY(const int member, types.offset_of("vm_area_struct", name));
    fill.push_back(load(kA1, kThing, member));
    fill.push_back(store(kFrame, at, kA1));
    at += 8;
  }
  // struct bpf_iter__task_vma { struct bpf_iter_meta *meta; struct task_struct *task; struct vm_area_struct *vma; };
  constexpr int kVma = 16;
  TRY(BpfIterator mappings, BpfIterator::load(types, "bpf_iter_task_vma", kVma, fill, kSize));
  return VmaReader(std::move(mappings));
}

Result<std::vector<Vma>> VmaReader::read(pid_t pid) const {
  TRY(const std::vector<std::uint64_t> words, mappings_.read(pid));
  std::vector<Vma> all;
  for (std::size_t i = 0; i < words.size(); i += 4) all.push_back({words[i], words[i + 1], words[i + 2], words[i + 3]});
  return all;
}

}  // namespace lifeboat
