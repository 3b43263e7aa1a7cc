// What CRIU's log is told as.
#include "criu_glue/diagnosis.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace lifeboat {
namespace {

constexpr const char* kLog =
    "(00.000001) Version: 4.2.1\n"
    "(00.000100) Error (criu/util.c:1): Can't setup RLIMIT_NOFILE for self\n"
    "(00.012345)     77: Error (criu/files-reg.c:9): Can't open file work/HPL.out: No such file\n"
    "(00.012400) Warn  (criu/x.c:1): nothing\n"
    "(00.012500) Error (criu/cr-restore.c:2): Restoring FAILED.";

TEST(CriuLogExcerpt, ErrorsOnlyWithoutStamps) {
  EXPECT_EQ(criu_log_excerpt(kLog),
            "\n  criu: Error (criu/files-reg.c:9): Can't open file work/HPL.out: No such file"
            "\n  criu: Error (criu/cr-restore.c:2): Restoring FAILED.");
  EXPECT_EQ(criu_log_excerpt(""), "");
  EXPECT_EQ(criu_log_excerpt("\n\n all is well"), "");
}

TEST(CriuLogExcerpt, AtMostEight) {
  std::string log;
  for (int i = 0; i < 11; ++i) log += "(00.1) Error (a.c:" + std::to_string(i) + "): x\n";
  const std::string text = criu_log_excerpt(log);
  EXPECT_NE(text.find("a.c:7)"), std::string::npos);
  EXPECT_EQ(text.find("a.c:8)"), std::string::npos);
  EXPECT_EQ(text.substr(text.rfind('\n')), "\n  criu: (3 more)");
}

TEST(CriuAdvice, NamesTheCause) {
  EXPECT_EQ(criu_advice(kLog), "a file that the job holds open is missing at the target");
  EXPECT_EQ(criu_advice("Error (x): write: No space left on device"),
            "the image directory is full: free memory or enlarge its tmpfs");
  EXPECT_EQ(criu_advice("Error (x): /dev/infiniband/uverbs0"),
            "a process uses RDMA, which cannot be moved: restrict UCX_TLS to tcp,self");
  EXPECT_EQ(criu_advice("something new"), "");
}

TEST(ExplainCriu, AddsExcerptAndAdvice) {
  const std::string path = ::testing::TempDir() + "/diagnosis_test.log";
  std::ofstream(path) << kLog;
  const Error told = explain_criu(Error(Errc::kSystem, "criu ended without an answer"), path);
  const Error own = explain_criu(Error(Errc::kTimeout, "Error (criu/util.c:1): harmless"), path);
  std::remove(path.c_str());
  const std::string rest = criu_log_excerpt(kLog) +
                           "\n  likely cause: a file that the job holds open is missing at the target";
  EXPECT_EQ(told.message, "criu ended without an answer" + rest);
  EXPECT_EQ(told.code, Errc::kSystem);
  EXPECT_EQ(own.message, "criu failed" + rest);
  EXPECT_EQ(own.code, Errc::kTimeout);
}

TEST(ExplainCriu, ALogThatSaysNothing) {
  const std::string path = ::testing::TempDir() + "/diagnosis_test_empty.log";
  std::ofstream(path) << "(00.1) Dumping";
  const Error told = explain_criu(Error(Errc::kSystem, "Error (criu/image.c:3): Unable to write"), path);
  const Error silent = explain_criu(Error(Errc::kSystem, "Error (criu/util.c:1): Can't setup RLIMIT_NOFILE"), path);
  std::remove(path.c_str());
  EXPECT_EQ(told.message, "criu failed: Error (criu/image.c:3): Unable to write");
  EXPECT_EQ(silent.message, "criu failed");
}

TEST(ExplainCriu, WithoutALog) {
  EXPECT_EQ(explain_criu(Error(Errc::kSystem, ""), "/no/such/log").message,
            "criu failed (no log: read /no/such/log: No such file or directory)");
}

}  // namespace
}  // namespace lifeboat
