// migration_trace.hpp - one migration as a trace that viewers draw: Chrome's trace event format ("Trace Event
// Format", JSON object form), which Perfetto and chrome://tracing open as it is. (OpenTelemetry's OTLP in JSON
// would need a collector before anybody could see it.)
//
// Source and target are its processes; the rows of the source are the phases, the rounds of pre-copy and the
// parts of the downtime, that of the target its part of the downtime. Times are microseconds from the request.
#pragma once

#include "base/json.hpp"

namespace lifeboat {

// Of a report with its history, as `migration.get` answers. Pure. kNotFound: no phase of it is known.
Result<json::object> trace_of(const json::object& report);

}  // namespace lifeboat
