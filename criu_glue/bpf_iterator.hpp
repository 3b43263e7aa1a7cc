// bpf_iterator.hpp - small BPF programs that read out of the kernel what /proc does not tell: one runs for each
// thing that an iterator of the kernel goes through, and writes what it finds for us to read.
//
// They are written as instructions; where the kernel keeps something its own description of its types says.
#pragma once

#include <bpf/btf.h>
#include <linux/bpf.h>
#include <sys/types.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Types of the running kernel (CONFIG_DEBUG_INFO_BTF).
class KernelTypes {
 public:
  // kUnavailable.
  static Result<KernelTypes> load();
  // Bytes from the start of struct `type` to its member, also of one in an unnamed part of it. kUnavailable.
  [[nodiscard]] Result<int> offset_of(const char* type, const char* member) const;
  // Of a function of the kernel. kUnavailable.
  [[nodiscard]] Result<std::uint32_t> function(const char* name) const;

 private:
  struct Free {
    void operator()(btf* types) const { btf__free(types); }
  };
  explicit KernelTypes(btf* types) : types_(types) {}
  std::unique_ptr<btf, Free> types_;
};

namespace bpf {

// Of a program: where its result and the arguments of its calls are, and what calls leave alone.
enum Register { kResult, kA1, kA2, kA3, kContext = 6, kThing = 7, kFrame = 10 };

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
constexpr bpf_insn load_u32(int to, int from, int offset) {
  return instruction(BPF_LDX | BPF_MEM | BPF_W, to, from, offset, 0);
}
constexpr bpf_insn store(int to, int offset, int from) {
  return instruction(BPF_STX | BPF_MEM | BPF_DW, to, from, offset, 0);
}
constexpr bpf_insn copy(int to, int from) { return instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
constexpr bpf_insn set(int to, int value) { return instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }

}  // namespace bpf

class BpfIterator {
 public:
  // `iterator`: e.g. "bpf_iter_task_vma". The program: for each thing, the last pointer of the iterator's context at
  // `thing`, `fill` puts `size` bytes (a multiple of 8) on the frame, up to kFrame, which are written for us to
  // read. kUnavailable: this kernel has none; kSystem: it does not let us.
  static Result<BpfIterator> load(const KernelTypes& types, const char* iterator, int thing,
                                  std::span<const bpf_insn> fill, int size);
  // What it writes of the things of one thread, this one; a multiple of `size`.
  [[nodiscard]] Result<std::vector<std::uint64_t>> read(pid_t tid) const;

 private:
  BpfIterator(Fd program, int size) : program_(std::move(program)), words_(static_cast<std::size_t>(size) / 8) {}
  Fd program_;
  std::size_t words_;
};

// What reads by such a program (VmaReader, ForkCounter), opened once; null where the kernel has none or does not let
// us, which the log says once: `otherwise`.
template <class Reader>
const Reader* opened_once(const char* otherwise) {
  static const Result<Reader> reader = [otherwise] {
    Result<Reader> opened = Reader::open();
    if (!opened) log::debug(otherwise, {{"reason", opened.error().message}});
    return opened;
  }();
  return reader ? &*reader : nullptr;
}

}  // namespace lifeboat
