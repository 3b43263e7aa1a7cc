#include "migration/image_content.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "criu_glue/mappings.hpp"
#include "criu_glue/pagemap.hpp"

namespace lifeboat {

namespace {

// Pages that are not the file's.
void append_own(const Pagemap& pagemap, AddressRange range, std::vector<PagePiece>& pieces) {
  constexpr std::uint64_t kPagesMax = ImageContent::kPieceBytes / kPageBytes;
  pm_scan_arg arg{};
  arg.category_inverted = PAGE_IS_FILE;
  arg.category_mask = PAGE_IS_PRESENT | PAGE_IS_FILE;
  arg.return_mask = PAGE_IS_PRESENT;
  (void)pagemap.scan(range, arg, [&](const page_region& region) {
    for (std::uint64_t at = region.start; at < region.end;) {
      const auto pages = std::min<std::uint64_t>((region.end - at) / kPageBytes, kPagesMax);
      pieces.push_back({at, static_cast<std::uint32_t>(pages)});
      at += pages * kPageBytes;
    }
  });
}

}  // namespace

ImageContent ImageContent::of(const std::vector<pid_t>& pids, std::set<std::string> seen) {
  ImageContent content;
  for (const pid_t pid : pids) {
    const auto shared = shared_mappings(pid);
    const auto own = imaged_mappings(pid);
    if (!shared || !own) continue;
    for (const SharedMapping& mapping : *shared) {
      if (!seen.insert(mapping.file).second) continue;
      OpenedMapping file = open_mapped(pid, mapping.range);
      struct stat info {};
      const bool readable = file.fd && ::fstat(file.fd.get(), &info) == 0 && S_ISREG(info.st_mode);  // no device
      if (readable) content.files_.push_back({std::move(file.fd), 0, 0});
    }
    Private process{std::make_unique<PageReader>(pid), {}, 0};
    auto pagemap = Pagemap::open(pid);
    if (pagemap && has_pagemap_scan()) {
      for (const AddressRange& range : *own) append_own(*pagemap, range, process.pieces);
    }
    if (!process.pieces.empty()) content.processes_.push_back(std::move(process));
  }
  return content;
}

void ImageContent::read(std::vector<unsigned char>& out) {
  out.clear();
  while (out.empty() && !files_.empty()) {
    read_file(files_.back(), out);
    if (out.empty()) files_.pop_back();
  }
  while (out.empty() && !processes_.empty()) {
    Private& process = processes_.back();
    if (process.at == process.pieces.size()) {
      processes_.pop_back();
    } else {
      read_private(process, out);
    }
  }
}

// Leaves `out` empty at its end, or where it cannot be read (huge pages have no SEEK_DATA): CRIU will tell.
void ImageContent::read_file(File& file, std::vector<unsigned char>& out) {
  if (file.at >= file.hole) {
    file.at = ::lseek(file.fd.get(), file.at, SEEK_DATA);
    if (file.at < 0) return;
    file.hole = ::lseek(file.fd.get(), file.at, SEEK_HOLE);
  }
  const off_t length = std::min<off_t>(file.hole - file.at, kPieceBytes);
  if (length < static_cast<off_t>(kPageBytes)) return;  // cut short meanwhile, or a last page that is none
  out.resize(static_cast<std::size_t>(length));
  const ssize_t n = ::pread(file.fd.get(), out.data(), out.size(), file.at);
  out.resize(n < 0 ? 0 : static_cast<std::size_t>(n) / kPageBytes * kPageBytes);
  file.at += static_cast<off_t>(out.size());
}

void ImageContent::read_private(Private& process, std::vector<unsigned char>& out) {
  std::vector<PagePiece> pieces;
  std::size_t pages = 0;
  do {
    pages += process.pieces[process.at].pages;
    pieces.push_back(process.pieces[process.at++]);
  } while (process.at < process.pieces.size() && (pages + process.pieces[process.at].pages) * kPageBytes <= kPieceBytes);
  out.resize(pages * kPageBytes);
  std::vector<bool> read;
  if (!process.reader->read(pieces, out.data(), read)) process.at = process.pieces.size();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < read.size(); ++i) {
    if (!read[i]) continue;
    std::memmove(out.data() + kept * kPageBytes, out.data() + i * kPageBytes, kPageBytes);
    ++kept;
  }
  out.resize(kept * kPageBytes);
}

}  // namespace lifeboat
