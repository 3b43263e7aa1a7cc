#include "criu_glue/vma_reader.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

namespace lifeboat {

namespace {

struct FreeBtf {
  void operator()(btf* types) const { btf__free(types); }
};
using Btf = std::unique_ptr<btf, FreeBtf>;

// Bytes from the start of `type` to its member `name`, also of one in an unnamed part of it.
std::optional<std::uint32_t> offset_of(const btf* types, const btf_type* type, const char* name) {
  const btf_member* member = btf_members(type);
  for (unsigned i = 0; i < btf_vlen(type); ++i, ++member) {
    const std::uint32_t offset = btf_member_bit_offset(type, i) / 8;
    const char* found = btf__name_by_offset(types, member->name_off);
    if (std::strcmp(found, name) == 0) return offset;
    const btf_type* part = btf__type_by_id(types, member->type);
    if (*found != '\0' || !btf_is_composite(part)) continue;
    if (const auto inside = offset_of(types, part, name)) return offset + *inside;
  }
  return std::nullopt;
}

constexpr bpf_insn instruction(int code, int to, int from, int offset, int value) {
  bpf_insn out{};
  out.code = static_cast<__u8>(code);
  out.dst_reg = static_cast<__u8>(to & 15);
  out.src_reg = static_cast<__u8>(from & 15);
  out.off = static_cast<__s16>(offset);
  out.imm = value;
  return out;
}
constexpr bpf_insn load(int to, int from, int offset) {
  return instruction(BPF_LDX | BPF_MEM | BPF_DW, to, from, offset, 0);
}
constexpr bpf_insn store(int to, int offset, int from) {
  return instruction(BPF_STX | BPF_MEM | BPF_DW, to, from, offset, 0);
}
constexpr bpf_insn copy(int to, int from) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}
constexpr bpf_insn set(int to, int value) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
}

// For each mapping: writes a Vma to the reader.
//   struct bpf_iter__task_vma { struct bpf_iter_meta *meta; struct task_struct *task;
//                               struct vm_area_struct *vma; };  meta begins with a seq_file
Result<Fd> load_program(int iterator, const int (&members)[4]) {
  enum { kResult, kA1, kA2, kA3, kContext = 6, kVma = 7, kFrame = 10 };
  constexpr int kSize = sizeof(Vma);
  const bpf_insn program[] = {
      copy(kContext, kA1),
      load(kVma, kContext, 16),
      instruction(BPF_JMP | BPF_JEQ | BPF_K, kVma, 0, 14, 0),  // the last call has none: to the end
      load(kA1, kVma, members[0]), store(kFrame, -kSize, kA1),
      load(kA1, kVma, members[1]), store(kFrame, -kSize + 8, kA1),
      load(kA1, kVma, members[2]), store(kFrame, -kSize + 16, kA1),
      load(kA1, kVma, members[3]), store(kFrame, -kSize + 24, kA1),
      load(kA1, kContext, 0),
      load(kA1, kA1, 0),
      copy(kA2, kFrame),
      instruction(BPF_ALU64 | BPF_ADD | BPF_K, kA2, 0, 0, -kSize),
      set(kA3, kSize),
      instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_seq_write),
      set(kResult, 0),
      instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  bpf_prog_load_opts options{};
  options.sz = sizeof options;
  options.expected_attach_type = BPF_TRACE_ITER;
  options.attach_btf_id = static_cast<__u32>(iterator);
  Fd loaded(bpf_prog_load(BPF_PROG_TYPE_TRACING, "lifeboat_vmas", "GPL", program, std::size(program),
                          &options));
  if (!loaded) return fail_errno("load the BPF program that lists mappings");
  return loaded;
}

}  // namespace

Result<VmaReader> VmaReader::open() {
  const Btf types(btf__load_vmlinux_btf());
  if (!types) return fail(Errc::kUnavailable, "this kernel does not describe its types (/sys/kernel/btf)");
  const int iterator = btf__find_by_name_kind(types.get(), "bpf_iter_task_vma", BTF_KIND_FUNC);
  const int area = btf__find_by_name_kind(types.get(), "vm_area_struct", BTF_KIND_STRUCT);
  if (iterator < 0 || area < 0) return fail(Errc::kUnavailable, "this kernel has no iterator of mappings");
  const btf_type* type = btf__type_by_id(types.get(), static_cast<__u32>(area));
  int members[4];
  int found = 0;
  for (const char* name : {"vm_start", "vm_end", "vm_flags", "vm_pgoff"}) {
    const auto offset = offset_of(types.get(), type, name);
    if (!offset) return fail(Errc::kUnavailable, std::string("this kernel's mappings have no ") + name);
    members[found++] = static_cast<int>(*offset);
  }
  TRY(Fd program, load_program(iterator, members));
  return VmaReader(std::move(program));
}

Result<std::vector<Vma>> VmaReader::read(pid_t pid) const {
  bpf_iter_link_info which{};
  which.task.tid = static_cast<__u32>(pid);  // `pid` would list them once per thread
  bpf_link_create_opts options{};
  options.sz = sizeof options;
  options.iter_info = &which;
  options.iter_info_len = sizeof which;
  const Fd link(bpf_link_create(program_.get(), 0, BPF_TRACE_ITER, &options));
  if (!link) return fail_errno("list the mappings of process " + std::to_string(pid));
  const Fd iterator(bpf_iter_create(link.get()));
  if (!iterator) return fail_errno("list the mappings of process " + std::to_string(pid));
  std::vector<Vma> all;
  std::size_t bytes = 0;
  for (;;) {
    constexpr std::size_t kPiece = 1024;
    all.resize(bytes / sizeof(Vma) + kPiece);
    const ssize_t size = ::read(iterator.get(), reinterpret_cast<char*>(all.data()) + bytes,
                                all.size() * sizeof(Vma) - bytes);
    if (size < 0 && errno == EAGAIN) continue;
    if (size < 0) return fail_errno("list the mappings of process " + std::to_string(pid));
    if (size == 0) break;
    bytes += static_cast<std::size_t>(size);
  }
  if (bytes % sizeof(Vma) != 0) return fail(Errc::kSystem, "a list of mappings was cut off");
  all.resize(bytes / sizeof(Vma));
  return all;
}

}  // namespace lifeboat
