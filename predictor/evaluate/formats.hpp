// formats.hpp - logs of real machines as events. What fails is the node (LANL, Alibaba, kmsg,
// replay), or the node board (Mira, BGL).
//
//   lanl     start,end,system,node,cause_class,cause,purpose,system_nodes,procs_per_node
//            (LA-UR-05-7318); down from start to end
//   mira     first,last,msg_id,category,component,count,location,... (LogAider); down while a
//            hardware reservation names the board, or, without a file of reservations, at each
//            FATAL event
//   alibaba  time,node,rack,room,disk,model,app; down at each ticket
//   bgl      loghub's form "TAG epoch date node ..." (also Thunderbird's); down at each line with a
//            tag
//   kmsg     records of /dev/kmsg, or lines of syslog; down from a panic to the next boot
//   replay   what `lifeboat-predict record` writes
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

enum class Format { kLanl, kMira, kAlibaba, kBgl, kKmsg, kReplay };
// kInvalid naming what there is.
Result<Format> format_from(std::string_view text);

// A text with the name that stands before messages about it.
struct Input {
  std::string name;
  std::string text;
};
// kSystem if it cannot be read.
Result<Input> read_input(const std::string& path);

struct Log {
  std::vector<Event> events;  // in the order of time
  std::size_t rejected = 0;   // lines that are not of the format
  std::string first_rejected; // "file:line"
};

// `labels`: Mira's reservations (start,end,name); may be empty. Of the first `limited` inputs, what
// happened at or after `limit` is passed over. kInvalid if no line is of the format.
Result<Log> read_log(Format format, const std::vector<Input>& inputs,
                     const std::vector<Input>& labels, std::size_t limited = 0,
                     Time limit = Time::max());
// When the log's first event happened that is not a node's entry into service.
[[nodiscard]] Time begin_of(const Log& log);

// Populations that are predicted and scored apart because their failures have little in common: of
// LANL "smp", "numa" and "other"; otherwise one, "all".
[[nodiscard]] std::string_view population_of(Format format, std::string_view node);
// Whether the unit counts: of Mira only the node boards.
[[nodiscard]] bool is_scored(Format format, std::string_view node);

// "R12-M0-N03" of anything in a node board of Mira; empty for other places.
[[nodiscard]] std::string_view board_of(std::string_view location);

}  // namespace lifeboat::predictor
