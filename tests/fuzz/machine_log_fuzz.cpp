// Logs of real machines for the evaluation, in each format.
#include "fuzz.hpp"
#include "predictor/evaluate/formats.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  using namespace lifeboat::predictor;
  if (size == 0) return 0;
  static constexpr Format kFormats[] = {Format::kLanl, Format::kMira, Format::kAlibaba,
                                        Format::kBgl,  Format::kKmsg, Format::kReplay};
  const Input input{"log", std::string(fuzz::text(data + 1, size - 1))};
  const auto log = read_log(kFormats[data[0] % std::size(kFormats)], {input}, {});
  fuzz::require_good(log);
  if (!log) return 0;
  for (std::size_t i = 1; i < log->events.size(); ++i) {
    fuzz::require(log->events[i - 1].time <= log->events[i].time,
                  "events are in the order of time");
  }
  return 0;
}
