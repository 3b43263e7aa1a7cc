// Job files: what is taken is read back from its own text as it was.
#include "mpi/job.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  const auto job = parse_job(fuzz::text(data, size), "job.yaml");
  fuzz::require_good(job);
  if (!job) {
    fuzz::require(job.error().message.starts_with("job.yaml:"), "a mistake begins with its place");
    return 0;
  }
  const auto again = parse_job(to_yaml(*job), "again.yaml");
  if (!again)
    std::fprintf(stderr, "%s\n%s\n", again.error().message.c_str(), to_yaml(*job).c_str());
  fuzz::require(again && *again == *job, "a job comes back from its own text as it was");
  return 0;
}
