#include "base/tcp_listen.hpp"

namespace lifeboat {

using asio::ip::tcp;

namespace {

tcp::acceptor try_to_listen(const asio::any_io_executor& executor, const tcp::endpoint& endpoint,
                            boost::system::error_code& error) {
  constexpr int kBacklog = 128;
  tcp::acceptor acceptor(executor);
  error.clear();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(kBacklog, error);
  return acceptor;
}

}  // namespace

awaitable<Result<tcp::acceptor>> listen_tcp(tcp::endpoint endpoint, std::string what) {
  constexpr Milliseconds kPause{50};
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  boost::system::error_code error;
  tcp::acceptor acceptor = try_to_listen(executor, endpoint, error);
  const auto end = SteadyClock::now() + std::chrono::seconds(5);
  while (error == asio::error::address_in_use && SteadyClock::now() < end) {
    co_await sleep_for(kPause);
    acceptor = try_to_listen(executor, endpoint, error);
  }
  if (!error) co_return acceptor;
  co_return fail(Errc::kSystem, what + " " + endpoint.address().to_string() + ":" + std::to_string(endpoint.port()) +
                                    ": " + error.message());
}

}  // namespace lifeboat
