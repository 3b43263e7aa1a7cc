// events.hpp - the kinds of events that have an id in systemd's journal, so that a site can wait for them:
//   journalctl -t lifeboatd MESSAGE_ID=9d72d044bab7488da41e45b6b5a5c3ff
// An id never changes and is never used for something else. configs/lifeboat.catalog says to each what it
// means and what to do (`journalctl -x`); a test compares the two.
#pragma once

#include "base/log.hpp"

namespace lifeboat::events {

inline constexpr log::Event kNodeState{"node-state", "a39c3d71211f4dc39594c074729ce4d5"};
inline constexpr log::Event kMigrationStarted{"migration-started", "08037d38a94a4429b077cb06c4fdd8a0"};
inline constexpr log::Event kMigrationCommitted{"migration-committed", "9d72d044bab7488da41e45b6b5a5c3ff"};
inline constexpr log::Event kMigrationAborted{"migration-aborted", "0923ee928cd743ef8b20c8acd322eab5"};
inline constexpr log::Event kMigrationFailed{"migration-failed", "080af6d82dd14d2ca5ed0453b75a4bb7"};
inline constexpr log::Event kMigrationInDoubt{"migration-in-doubt", "82808327832143e6962e818d52a972e7"};
inline constexpr log::Event kMigrationResolved{"migration-resolved", "94673f3220644151b7fa86cb77896292"};
inline constexpr log::Event kContainerArrived{"container-arrived", "76c2d50deeda4ebdbfc1acfe12b703b5"};
inline constexpr log::Event kContainerStarted{"container-started", "22c20017f4e04d8a9002bbf8bcd5f290"};
inline constexpr log::Event kContainerEnded{"container-ended", "fea3980307e14e3583b23d4f892cffaf"};
inline constexpr log::Event kContainerLost{"container-lost", "1f7f9e9bdabc4230bc61e9fdea57226b"};
inline constexpr log::Event kContainerDestroyed{"container-destroyed", "56b453216a974e8590e2d8fd5d0b12f8"};
inline constexpr log::Event kEvacuationBegun{"evacuation-begun", "a0ce07e15d7c4d7aa5d90d82f4270336"};
inline constexpr log::Event kEvacuationDone{"evacuation-done", "40858e67d81d41b2b68c1982fd65abaa"};
inline constexpr log::Event kEvacuationStuck{"evacuation-stuck", "6621c79d32eb44d585af67f24a4e963a"};
inline constexpr log::Event kRegistryUnreachable{"registry-unreachable", "d4ef8c64dbcc48218c917437603156c2"};
inline constexpr log::Event kRegistryReachable{"registry-reachable", "996e9d99ff6044efacf986b7ec56d34d"};
inline constexpr log::Event kCertificateProblem{"certificate-problem", "bba5324ba990407aa4c114050195bdce"};
inline constexpr log::Event kCertificateGood{"certificate-good", "8a1761e83db04d8c909c5015a2073ca4"};
inline constexpr log::Event kLeftoverRemoved{"leftover-removed", "56413c7f68a042a5a10934cb62f390e0"};
inline constexpr log::Event kPagerDied{"pager-died", "54585f49bef2471b8dbe3da84ecdc7ee"};
inline constexpr log::Event kSlurmUnreachable{"slurm-unreachable", "cbc3f0609cca4215b369d4d6b7555b5c"};
inline constexpr log::Event kSlurmReachable{"slurm-reachable", "83f2609b33974b2885610aa259ea6b9c"};

inline constexpr log::Event kAll[] = {
    kNodeState, kMigrationStarted, kMigrationCommitted, kMigrationAborted, kMigrationFailed,
    kMigrationInDoubt, kMigrationResolved, kContainerArrived, kContainerStarted, kContainerEnded,
    kContainerLost, kContainerDestroyed, kEvacuationBegun, kEvacuationDone, kEvacuationStuck,
    kRegistryUnreachable, kRegistryReachable, kCertificateProblem, kCertificateGood, kLeftoverRemoved,
    kPagerDied, kSlurmUnreachable, kSlurmReachable,
};

}  // namespace lifeboat::events
