#include "criu_glue/write_protect.hpp"

#include <sys/ioctl.h>

namespace lifeboat::write_protect {

Status enable(int uffd, bool tells_removed) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
                 UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  if (tells_removed) api.features |= UFFD_FEATURE_EVENT_REMOVE;
  if (::ioctl(uffd, UFFDIO_API, &api) != 0) return fail_errno("userfaultfd without WP_ASYNC");
  return {};
}

bool register_range(int uffd, const AddressRange& range) {
  uffdio_register request{};
  request.range.start = range.start;
  request.range.len = range.bytes();
  request.mode = UFFDIO_REGISTER_MODE_WP;
  return ::ioctl(uffd, UFFDIO_REGISTER, &request) == 0;
}

bool set(int uffd, const AddressRange& range, bool on) {
  uffdio_writeprotect request{};
  request.range.start = range.start;
  request.range.len = range.bytes();
  request.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  return ::ioctl(uffd, UFFDIO_WRITEPROTECT, &request) == 0;
}

}  // namespace lifeboat::write_protect
