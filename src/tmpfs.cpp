#include "tmpfs.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/file.hpp"
#include "base/process.hpp"

namespace lifeboat {

namespace {

constexpr std::size_t kMountsMax = 64;
constexpr std::size_t kWordsMax = 64;  // flags or options of one

struct Flag {
  std::string_view name;
  unsigned attribute;
};
constexpr Flag kFlags[] = {
    {"nosuid", MOUNT_ATTR_NOSUID},     {"nodev", MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC},     {"relatime", MOUNT_ATTR_RELATIME},
    {"noatime", MOUNT_ATTR_NOATIME},   {"nodiratime", MOUNT_ATTR_NODIRATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW},
};
constexpr std::string_view kOptions[] = {"size", "nr_blocks", "nr_inodes", "mode",    "uid",
                                         "gid",  "huge",      "inode64",   "inode32", "noswap"};

std::vector<std::string_view> words_of(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// mountinfo writes blanks and backslashes as "\040" and "\134".
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool octal = text[i] == '\\' && i + 3 < text.size() &&
                       std::all_of(text.begin() + static_cast<long>(i) + 1,
                                   text.begin() + static_cast<long>(i) + 4,
                                   [](char c) { return c >= '0' && c <= '7'; });
    if (!octal) {
      out += text[i];
      continue;
    }
    out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
    i += 3;
  }
  return out;
}

bool is_known_flag(std::string_view name) {
  return std::any_of(std::begin(kFlags), std::end(kFlags),
                     [&](const Flag& flag) { return flag.name == name; });
}

bool is_known_option(std::string_view option) {
  const std::string_view key = option.substr(0, option.find('='));
  return std::find(std::begin(kOptions), std::end(kOptions), key) != std::end(kOptions);
}

bool is_known(const TmpfsMount& mount) {
  return std::all_of(mount.flags.begin(), mount.flags.end(), is_known_flag) &&
         std::all_of(mount.options.begin(), mount.options.end(), is_known_option);
}

// ID PARENT DEVICE ROOT TARGET FLAGS [FIELD...] - TYPE SOURCE OPTIONS
std::optional<TmpfsMount> parse_line(std::string_view line) {
  const std::vector<std::string_view> words = words_of(line, ' ');
  const auto dash = std::find(words.begin(), words.end(), "-");
  if (words.size() < 6 || words.end() - dash < 4 || dash - words.begin() < 6) return std::nullopt;
  if (dash[1] != "tmpfs" || words[3] != "/") return std::nullopt;
  TmpfsMount mount;
  mount.device = words[2];
  mount.target = unescaped(words[4]);
  mount.source = unescaped(dash[2]);
  for (const std::string_view flag : words_of(words[5], ',')) {
    if (flag != "rw") mount.flags.emplace_back(flag);
  }
  for (const std::string_view option : words_of(dash[3], ',')) {
    if (option != "rw") mount.options.emplace_back(option);
  }
  return mount;
}

constexpr std::size_t kDevice = 2;
constexpr std::size_t kTarget = 4;
std::string_view word_of(std::string_view line, std::size_t number) {
  const std::vector<std::string_view> words = words_of(line, ' ');
  return number < words.size() ? words[number] : std::string_view();
}

std::string device_text(dev_t device) {
  return std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

Status configure(int context, const TmpfsMount& mount, const std::string& option) {
  const std::size_t equals = option.find('=');
  const std::string key = option.substr(0, equals);
  const bool has_value = equals != std::string::npos;
  const std::string value = has_value ? option.substr(equals + 1) : "";
  const int done = ::fsconfig(context, has_value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key.c_str(),
                              has_value ? value.c_str() : nullptr, 0);
  if (done == 0) return {};
  return fail_errno("make a tmpfs for " + mount.target + " with option '" + option + "'");
}

}  // namespace

std::vector<TmpfsMount> parse_tmpfs_mounts(std::string_view mountinfo) {
  const std::vector<std::string_view> lines = words_of(mountinfo, '\n');
  std::map<std::string_view, int> mounted;  // devices, and places: what lies over another hides it
  for (const std::string_view line : lines) {
    ++mounted[word_of(line, kDevice)];
    ++mounted[word_of(line, kTarget)];
  }
  std::vector<TmpfsMount> mounts;
  for (const std::string_view line : lines) {
    std::optional<TmpfsMount> mount = parse_line(line);
    if (!mount || mount->target == "/" || !is_known(*mount)) continue;
    if (mounted[word_of(line, kDevice)] > 1 || mounted[word_of(line, kTarget)] > 1) continue;
    if (mounts.size() < kMountsMax) mounts.push_back(std::move(*mount));
  }
  return mounts;
}

Result<std::vector<TmpfsMount>> tmpfs_mounts(pid_t pid) {
  constexpr std::size_t kMountinfoBytesMax = 16U << 20;
  TRY(const std::string text,
      read_file("/proc/" + std::to_string(pid) + "/mountinfo", kMountinfoBytesMax));
  return parse_tmpfs_mounts(text);
}

json::array to_json(const std::vector<TmpfsMount>& mounts) {
  json::array out;
  for (const TmpfsMount& mount : mounts) {
    out.push_back(json::object{{"target", mount.target},
                               {"source", mount.source},
                               {"options", to_array(mount.options)},
                               {"flags", to_array(mount.flags)}});
  }
  return out;
}

Result<std::vector<TmpfsMount>> tmpfs_mounts_from(const json::array& array) {
  if (array.size() > kMountsMax) return fail(Errc::kProtocol, "too many tmpfs mounts");
  std::vector<TmpfsMount> mounts;
  for (const json::value& item : array) {
    if (!item.is_object()) return fail(Errc::kProtocol, "tmpfs: not an object");
    const json::object& object = item.get_object();
    TmpfsMount mount;
    TRY(mount.target, get_string(object, "target"));
    TRY(mount.source, get_string(object, "source"));
    TRY(mount.options, get_strings(object, "options", kWordsMax));
    TRY(mount.flags, get_strings(object, "flags", kWordsMax));
    if (mount.target.size() < 2 || mount.target.front() != '/' || !is_known(mount)) {
      return fail(Errc::kProtocol, "tmpfs: '" + mount.target + "' is none that can be made here");
    }
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

Result<Fd> open_tmpfs(pid_t pid, const TmpfsMount& mount) {
  Fd root;
  CHECK_OK(in_mount_namespace(pid, [&]() -> Status {
    root = Fd(::open_tree(AT_FDCWD, mount.target.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    if (!root) return fail_errno("open the tmpfs at " + mount.target + " in the container");
    return {};
  }));
  struct stat info {};
  if (::fstat(root.get(), &info) != 0) return fail_errno("look at the tmpfs at " + mount.target);
  if (device_text(info.st_dev) != mount.device) {
    return fail(Errc::kRefused, "the tmpfs at " + mount.target + " in the container lies under another mount");
  }
  return root;
}

Result<Fd> make_tmpfs(const TmpfsMount& mount) {
  const Fd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context) return fail_errno("make a tmpfs for " + mount.target);
  CHECK_OK(configure(context.get(), mount, "source=" + mount.source));
  for (const std::string& option : mount.options) CHECK_OK(configure(context.get(), mount, option));
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return fail_errno("make a tmpfs for " + mount.target);
  }
  unsigned attributes = MOUNT_ATTR_STRICTATIME;  // what is shown as nothing
  for (const Flag& flag : kFlags) {
    if (std::find(mount.flags.begin(), mount.flags.end(), flag.name) == mount.flags.end()) continue;
    constexpr unsigned kAccessTime = MOUNT_ATTR__ATIME;
    if ((flag.attribute & ~kAccessTime) == 0) attributes &= ~kAccessTime;
    attributes |= flag.attribute;
  }
  Fd root(::fsmount(context.get(), FSMOUNT_CLOEXEC, attributes));
  if (!root) return fail_errno("mount a tmpfs for " + mount.target);
  return root;
}

}  // namespace lifeboat
