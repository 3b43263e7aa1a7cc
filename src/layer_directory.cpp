#include "layer_directory.hpp"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "base/file.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

namespace {

// The kernel would refuse the mount without saying why.
Status check_file_system(const std::string& upper) {
  struct statfs info {};
  if (::statfs(upper.c_str(), &info) != 0) return fail_errno("look at " + upper);
  const std::string advice = "; set paths.layers_dir to a directory on ext4, xfs, btrfs or tmpfs";
  if (info.f_type == OVERLAYFS_SUPER_MAGIC || info.f_type == NFS_SUPER_MAGIC) {
    return fail(Errc::kRefused, upper + " is on a file system that cannot hold a writable layer" + advice);
  }
  // Overlays mark directories with attributes of this kind.
  const char* const name = "trusted.overlay.lifeboat";
  if (::setxattr(upper.c_str(), name, "y", 1, 0) != 0) {
    return fail(Errc::kRefused, "no trusted.* attributes can be set in " + upper + " (" +
                                    std::strerror(errno) + ")" + advice);
  }
  (void)::removexattr(upper.c_str(), name);
  return {};
}

}  // namespace

Result<LayerDirectory> LayerDirectory::create(const std::string& layers_dir, const std::string& id,
                                              const std::string& lower) {
  LayerDirectory layer(layers_dir, id, lower);
  CHECK_OK(remove_tree(layer.directory_));
  // Twice: LAYERS_DIR goes when the last layer has gone, see remove().
  if (!make_directories(layer.upper())) CHECK_OK(make_directories(layer.upper()));
  CHECK_OK(make_directories(layer.directory_ + "/work"));
  auto fit = check_file_system(layer.upper());
  struct stat image {};
  if (fit && ::stat(lower.c_str(), &image) != 0) fit = fail_errno("look at " + lower);
  if (fit && (::chown(layer.upper().c_str(), image.st_uid, image.st_gid) != 0 ||
              ::chmod(layer.upper().c_str(), image.st_mode & 07777) != 0)) {
    fit = fail_errno("set owner and mode of " + layer.upper());
  }
  if (!fit) {
    layer.remove();
    return tl::unexpected<Error>(fit.error());
  }
  return layer;
}

OverlayMount LayerDirectory::overlay(std::string mount_point) const {
  OverlayMount overlay;
  overlay.lower = lower_;
  overlay.upper = upper();
  overlay.work = directory_ + "/work";
  overlay.mount_point = std::move(mount_point);
  return overlay;
}

Result<std::uint64_t> LayerDirectory::free_bytes() const {
  struct statfs info {};
  if (::statfs(directory_.c_str(), &info) != 0) return fail_errno("look at " + directory_);
  return static_cast<std::uint64_t>(info.f_bavail) * static_cast<std::uint64_t>(info.f_bsize);
}

void LayerDirectory::remove() const {
  static std::atomic<unsigned> count{0};
  const fs::path path(directory_);
  fs::path gone;
  // A name may be that of one which an earlier daemon could not finish.
  do {
    gone = path.parent_path() / (".gone-" + std::to_string(count++));
    if (::rename(path.c_str(), gone.c_str()) == 0) break;
    if (errno != ENOTEMPTY && errno != EEXIST) return;
  } while (true);
  // Should the daemon end first, its successor finds the rest.
  std::thread([gone] {
    (void)remove_tree(gone);
    (void)::rmdir(gone.parent_path().c_str());
  }).detach();
}

std::vector<std::string> layers_present(const std::string& layers_dir) {
  std::vector<std::string> ids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(layers_dir, error)) {
    ids.push_back(entry.path().filename());
  }
  return ids;
}

}  // namespace lifeboat
