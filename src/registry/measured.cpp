#include "registry/measured.hpp"

namespace lifeboat {

template <class T>
awaitable<Result<T>> MeasuredRegistry::measure(RegistryCall call, awaitable<Result<T>> request) {
  const auto start = SteadyClock::now();
  auto answer = co_await std::move(request);
  // "There is no such lease" is an answer.
  const bool answered = answer || answer.error().code == Errc::kNotFound;
  metrics_.registry_called(call, elapsed_ms(start) / 1000, answered);
  co_return answer;
}

awaitable<Result<std::optional<Entry>>> MeasuredRegistry::get(std::string key) {
  return measure(RegistryCall::kGet, inner_->get(std::move(key)));
}

awaitable<Result<Swap>> MeasuredRegistry::try_swap(SwapRequest request) {
  return measure(RegistryCall::kSwap, inner_->try_swap(std::move(request)));
}

awaitable<Result<std::vector<Entry>>> MeasuredRegistry::page(Selection request) {
  return measure(RegistryCall::kPage, inner_->page(std::move(request)));
}

awaitable<Result<LeaseId>> MeasuredRegistry::grant(Milliseconds term) {
  return measure(RegistryCall::kGrant, inner_->grant(term));
}

awaitable<Status> MeasuredRegistry::keep_alive(LeaseId lease) {
  return measure(RegistryCall::kKeepAlive, inner_->keep_alive(lease));
}

awaitable<Status> MeasuredRegistry::revoke(LeaseId lease) {
  return measure(RegistryCall::kRevoke, inner_->revoke(lease));
}

}  // namespace lifeboat
