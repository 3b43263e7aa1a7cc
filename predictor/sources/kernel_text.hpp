// kernel_text.hpp - what a line of the kernel's log says: the lines that hardware in trouble is
// known by get their kind, location, severity and details; every other one stays a message, for the
// models to learn what it is worth.
//
// Patterns are matched at the beginning of the line where the kernel writes them there: the middle
// may hold names that a user chose.
//
//   EDAC MC0: 1 CE memory read error on LABEL (page:0x.. row:0x..)  corrected-memory, mc0/LABEL
//   mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 8: ..       processor, cpu3
//   pcieport ..: AER: Corrected error received: 0000:3b:00.0        bus, 0000:3b:00.0
//   I/O error, dev sda, sector 4711 ..; nvme nvme0: I/O 37 QID 4 timeout; EXT4-fs error (device ..)
//                                                                   disk, sda
//   NVRM: Xid (PCI:0000:86:00): 79, ..                              processor (faults of the
//                                                                   device; Xids that programs
//                                                                   cause stay messages)
//   CPU12: Core temperature above threshold ..                      temperature, cpu12
//   watchdog: BUG: soft lockup - CPU#3 ..                           processor, cpu3
//   mlx5_core 0000:3b:00.0: Port module event[error]: ..            network
//   Out of memory: Killed process ..                                pressure, memory
#pragma once

#include "predictor/event.hpp"

namespace lifeboat::predictor {

// syslog's 0 (emergency) to 7 (debug).
[[nodiscard]] Severity severity_of_priority(unsigned priority);

// Looks at `event.text`; what it does not know it leaves as it was.
void classify_kernel_text(Event& event);

// Where in the memory, as drivers say it: "page:0x1f4a2b bg:2 ba:1 row:0x6a3b col:0x2c8" becomes
// details page, bank ("2.1": group and bank), row, column, ...; other words are ignored.
void add_memory_details(Event& event, std::string_view list);

// Where memory is, the same for every source that tells of it: "mc0/DIMM_A1". A label that names no
// single DIMM ("any memory", "A or B") gives the controller alone.
[[nodiscard]] std::string memory_location(std::string_view mc, std::string_view label);

}  // namespace lifeboat::predictor
