#include "criu_glue/bpf_iterator.hpp"

#include <bpf/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace lifeboat {

namespace {

std::optional<std::uint32_t> offset_in(const btf* types, const btf_type* type, const char* name) {
  const btf_member* member = btf_members(type);
  for (unsigned i = 0; i < btf_vlen(type); ++i, ++member) {
    const std::uint32_t offset = btf_member_bit_offset(type, i) / 8;
    const char* found = btf__name_by_offset(types, member->name_off);
    if (std::strcmp(found, name) == 0) return offset;
    const btf_type* part = btf__type_by_id(types, member->type);
    if (*found != '\0' || !btf_is_composite(part)) continue;
    if (const auto inside = offset_in(types, part, name)) return offset + *inside;
  }
  return std::nullopt;
}

}  // namespace

Result<KernelTypes> KernelTypes::load() {
  KernelTypes types(btf__load_vmlinux_btf());
  if (!types.types_) return fail(Errc::kUnavailable, "this kernel does not describe its types (/sys/kernel/btf)");
  return types;
}

Result<int> KernelTypes::offset_of(const char* type, const char* member) const {
  const int id = btf__find_by_name_kind(types_.get(), type, BTF_KIND_STRUCT);
  const auto offset = id < 0 ? std::nullopt
                             : offset_in(types_.get(), btf__type_by_id(types_.get(), static_cast<__u32>(id)), member);
  if (!offset) return fail(Errc::kUnavailable, std::string("this kernel's ") + type + " has no " + member);
  return static_cast<int>(*offset);
}

Result<std::uint32_t> KernelTypes::function(const char* name) const {
  const int id = btf__find_by_name_kind(types_.get(), name, BTF_KIND_FUNC);
  if (id < 0) return fail(Errc::kUnavailable, std::string("this kernel has no ") + name);
  return static_cast<std::uint32_t>(id);
}

Result<BpfIterator> BpfIterator::load(const KernelTypes& types, const char* iterator, int thing,
                                      std::span<const bpf_insn> fill, int size) {
  using namespace bpf;
  // The context begins with a bpf_iter_meta, and that with a seq_file.
  const bpf_insn writes[] = {
      bpf::load(kA1, kContext, 0),
      bpf::load(kA1, kA1, 0),
      copy(kA2, kFrame),
      instruction(BPF_ALU64 | BPF_ADD | BPF_K, kA2, 0, 0, -size),
      set(kA3, size),
      instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_seq_write),
  };
  const auto skipped = static_cast<int>(fill.size() + std::size(writes));
  std::vector<bpf_insn> program{
      copy(kContext, kA1),
      bpf::load(kThing, kContext, thing),
      instruction(BPF_JMP | BPF_JEQ | BPF_K, kThing, 0, skipped, 0),  // the last call has none
  };
  program.insert(program.end(), fill.begin(), fill.end());
  program.insert(program.end(), std::begin(writes), std::end(writes));
  program.push_back(set(kResult, 0));
  program.push_back(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));

  TRY(const std::uint32_t function, types.function(iterator));
  bpf_prog_load_opts options{};
  options.sz = sizeof options;
  options.expected_attach_type = BPF_TRACE_ITER;
  options.attach_btf_id = function;
  Fd loaded(bpf_prog_load(BPF_PROG_TYPE_TRACING, "lifeboat", "GPL", program.data(), program.size(), &options));
  if (!loaded) return fail_errno(std::string("load a BPF program for ") + iterator);
  return BpfIterator(std::move(loaded), size);
}

Result<std::vector<std::uint64_t>> BpfIterator::read(pid_t tid) const {
  const auto cannot = [tid] { return fail_errno("look at process " + std::to_string(tid) + " by BPF"); };
  bpf_iter_link_info which{};
  which.task.tid = static_cast<__u32>(tid);  // `pid` would list them once per thread
  bpf_link_create_opts options{};
  options.sz = sizeof options;
  options.iter_info = &which;
  options.iter_info_len = sizeof which;
  const Fd link(bpf_link_create(program_.get(), 0, BPF_TRACE_ITER, &options));
  if (!link) return cannot();
  const Fd iterator(bpf_iter_create(link.get()));
  if (!iterator) return cannot();
  std::vector<std::uint64_t> words;
  std::size_t bytes = 0;
  for (;;) {
    constexpr std::size_t kPiece = 4096;
    words.resize(bytes / sizeof(std::uint64_t) + kPiece);
    const ssize_t size = ::read(iterator.get(), reinterpret_cast<char*>(words.data()) + bytes,
                                words.size() * sizeof(std::uint64_t) - bytes);
    if (size < 0 && errno == EAGAIN) continue;
    if (size < 0) return cannot();
    if (size == 0) break;
    bytes += static_cast<std::size_t>(size);
  }
  if (bytes % (words_ * sizeof(std::uint64_t)) != 0) return fail(Errc::kSystem, "what BPF told was cut off");
  words.resize(bytes / sizeof(std::uint64_t));
  return words;
}

}  // namespace lifeboat
