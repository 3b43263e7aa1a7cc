// What a predictor has learned, from a file that may be damaged or another's: taken or refused as a
// whole, and then fit for use.
#include <cmath>

#include "fuzz.hpp"
#include "predictor/predictor.hpp"
#include "predictor/sources/source_set.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  using namespace lifeboat::predictor;
  Predictor predictor{PredictorConfig{}};
  const std::string before = predictor.save();
  const Status loaded = predictor.load(fuzz::text(data, size));
  fuzz::require_good(loaded);
  if (!loaded) {
    fuzz::require(predictor.save() == before, "damaged text changes nothing");
    SourceSet sources{{}};
    fuzz::require_good(sources.restore(fuzz::text(data, size)));
    return 0;
  }
  Event event;
  event.time = Time{std::chrono::seconds(1'700'000'000)};
  event.node = "n1";
  event.source = "edac";
  event.kind = EventKind::kCorrectedMemory;
  event.severity = Severity::kWarning;
  event.text = "corrected";
  predictor.add(event);
  predictor.advance(event.time + std::chrono::hours(1));
  const Verdict verdict = predictor.verdict("n1");
  fuzz::require(std::isfinite(verdict.risk) && verdict.risk >= 0 && verdict.risk <= 1,
                "a risk is a probability");
  (void)predictor.take_changes();
  Predictor again{PredictorConfig{}};
  fuzz::require(again.load(predictor.save()).has_value(), "what is saved can be loaded");
  return 0;
}
