// result.hpp - how everything in Lifeboat reports failure.
//
// Library code returns `Result<T>` and never logs an error; the program (or the session driver)
// that can do nothing more with it tells it, once. Each layer that passes an error on may add one
// short clause in front: `r.error().context("freeze container")`.
//
// Exceptions are for what cannot happen or cannot be continued from (out of memory); errors of
// Asio come as error codes.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace lifeboat {

// What a caller may want to tell apart. The text is for people; the code is for programs.
enum class Errc {
  kInvalid,      // the request or the input is wrong; repeating it will not help
  kNotFound,     // no such node, container, job, file
  kConflict,     // the object is busy or already exists
  kRefused,      // a preflight check said no
  kUnavailable,  // a peer or a tool cannot be reached or is missing
  kTimeout,      // a step passed its deadline
  kProtocol,     // a peer sent something it must not send
  kSystem,       // a system call or an external tool failed
  kCancelled,    // stopped on request
};

[[nodiscard]] constexpr const char* to_string(Errc code) {
  switch (code) {
    case Errc::kInvalid: return "invalid";
    case Errc::kNotFound: return "not_found";
    case Errc::kConflict: return "conflict";
    case Errc::kRefused: return "refused";
    case Errc::kUnavailable: return "unavailable";
    case Errc::kTimeout: return "timeout";
    case Errc::kProtocol: return "protocol";
    case Errc::kSystem: return "system";
    case Errc::kCancelled: return "cancelled";
  }
  return "unknown";
}

// The inverse of to_string(); anything unknown (a newer peer) is kSystem.
[[nodiscard]] inline Errc errc_from(const std::string& name) {
  for (Errc code : {Errc::kInvalid, Errc::kNotFound, Errc::kConflict, Errc::kRefused,
                    Errc::kUnavailable, Errc::kTimeout, Errc::kProtocol, Errc::kCancelled}) {
    if (name == to_string(code)) return code;
  }
  return Errc::kSystem;
}

struct Error {
  Error(Errc c, std::string m) : code(c), message(std::move(m)) {}

  // "`clause`: what was there". Use it where a layer knows something the one below did not.
  [[nodiscard]] Error context(const std::string& clause) const {
    return Error(code, clause + ": " + message);
  }

  Errc code;
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

[[nodiscard]] inline tl::unexpected<Error> fail(Errc code, std::string message) {
  return tl::unexpected<Error>(Error(code, std::move(message)));
}

// What an operator can do where something has run out; empty where that depends on what was done.
[[nodiscard]] constexpr const char* advice_for(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return " (free space there)";
    case EROFS: return " (has the kernel remounted it after an error? see dmesg)";
    case EMFILE: return " (raise LimitNOFILE of lifeboatd)";
    case ENFILE: return " (raise fs.file-max on this node)";
    case ENOMEM: return " (free memory on this node)";
    default: return "";
  }
}

// For a system call that just failed: "`what`: strerror(errno)", and advice where something has run out.
[[nodiscard]] inline tl::unexpected<Error> fail_errno(const std::string& what, int error = errno) {
  return fail(Errc::kSystem, what + ": " + std::strerror(error) + advice_for(error));
}

// For a process or a thread that could not be made.
[[nodiscard]] inline tl::unexpected<Error> fail_task(const std::string& what, int error = errno) {
  if (error != EAGAIN) return fail_errno(what, error);
  return fail_errno(what + " (a limit of tasks: raise TasksMax of lifeboatd, or pids.max)", error);
}

}  // namespace lifeboat

// TRY(auto x, f()):  declares x from f()'s value, or returns f()'s error from this function.
// The CO_ form does the same in a coroutine. The only macros of the tree.
#define LIFEBOAT_CONCAT_(a, b) a##b
#define LIFEBOAT_CONCAT(a, b) LIFEBOAT_CONCAT_(a, b)
#define LIFEBOAT_TRY_(temp, declaration, ret, ...)                  \
  auto temp = __VA_ARGS__;                                          \
  if (!temp) ret tl::unexpected<::lifeboat::Error>(std::move(temp).error()); \
  declaration = std::move(*temp)
#define LIFEBOAT_CHECK_(temp, ret, ...)                             \
  if (auto temp = __VA_ARGS__; !temp) ret tl::unexpected<::lifeboat::Error>(std::move(temp).error())

#define TRY(declaration, ...) \
  LIFEBOAT_TRY_(LIFEBOAT_CONCAT(try_, __LINE__), declaration, return, __VA_ARGS__)
#define CO_TRY(declaration, ...) \
  LIFEBOAT_TRY_(LIFEBOAT_CONCAT(try_, __LINE__), declaration, co_return, __VA_ARGS__)
// For Result<void>.
#define CHECK_OK(...) LIFEBOAT_CHECK_(LIFEBOAT_CONCAT(try_, __LINE__), return, __VA_ARGS__)
#define CO_CHECK_OK(...) LIFEBOAT_CHECK_(LIFEBOAT_CONCAT(try_, __LINE__), co_return, __VA_ARGS__)
