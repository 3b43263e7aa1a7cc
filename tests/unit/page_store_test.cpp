// What a page store does with its memory; what it holds is in page_receiver_test.cpp.
#include "criu_glue/page_store.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace lifeboat {
namespace {

// The pager forks its guard while it holds all of a container's memory.
TEST(PageStore, AChildDoesNotHaveIt) {
  PageStore store(std::make_shared<PageBudget>(kChunkBytes));
  constexpr std::uint32_t kPages = 100;
  unsigned char* const place = store.place(1, 0, kPages).value();
  std::memset(place, 1, kPages * kPageBytes);
  const auto is_mapped = [&] {
    unsigned char resident = 0;
    return ::mincore(place, kPageBytes, &resident) == 0 || errno != ENOMEM;
  };
  ASSERT_TRUE(is_mapped());
  const pid_t child = ::fork();
  if (child == 0) ::_exit(is_mapped() ? 1 : 0);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace lifeboat
