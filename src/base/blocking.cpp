#include "base/blocking.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <system_error>

namespace lifeboat {

awaitable<void> run_on(asio::thread_pool& pool, std::function<void()> work) {
  const auto call = [](std::function<void()> f) -> awaitable<void> {
    f();
    co_return;
  };
  awaitable<void> there = call(std::move(work));
  co_await asio::co_spawn(pool.get_executor(), std::move(there),
                          asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
}

Error error_of(const std::exception_ptr& thrown, const std::string& what) {
  try {
    std::rethrow_exception(thrown);
  } catch (const asio::multiple_exceptions& several) {  // of `a && b`; the second may be its cancellation
    return error_of(several.first_exception(), what);
  } catch (const std::system_error& error) {
    return fail_task(what, error.code().value()).value();
  } catch (const boost::system::system_error& error) {  // Asio's own threads and descriptors
    return fail_task(what, error.code().value()).value();
  } catch (const std::bad_alloc&) {
    return fail_errno(what, ENOMEM).value();
  } catch (const std::exception& error) {
    return Error(Errc::kSystem, what + ": " + error.what());
  } catch (...) {
    return Error(Errc::kSystem, what + ": an unknown exception");
  }
}

}  // namespace lifeboat
