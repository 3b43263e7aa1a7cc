// log.hpp - one line per fact, `level key=value ...`, on stderr; under systemd an entry of its journal with a
// field for each key (journald.hpp).
//
// error: an operation asked for by a person or a peer could not be done as expected
// warn:  something an operator should look at, though nothing failed yet
// info:  phases of migrations, starts and ends of containers and jobs
// debug: for the developer; off unless LIFEBOAT_DEBUG is set
//
// Only programs and session drivers log; library code returns errors.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace lifeboat::log {

using Field = std::pair<std::string_view, std::string>;

// A kind of event that others may wait for; the catalog is src/events.hpp.
struct Event {
  std::string_view name;  // "migration-committed"; LIFEBOAT_EVENT in the journal
  std::string_view id;    // MESSAGE_ID in the journal: 128 bits in hex, the same in every version
};

void error(std::string_view what, std::initializer_list<Field> fields = {});
void warn(std::string_view what, std::initializer_list<Field> fields = {});
void info(std::string_view what, std::initializer_list<Field> fields = {});
void error(const Event& event, std::string_view what, std::initializer_list<Field> fields = {});
void warn(const Event& event, std::string_view what, std::initializer_list<Field> fields = {});
void info(const Event& event, std::string_view what, std::initializer_list<Field> fields = {});
void debug(std::string_view what, std::initializer_list<Field> fields = {});

}  // namespace lifeboat::log
