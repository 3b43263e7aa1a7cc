// layer_transfer.hpp - the passes of layer.hpp over a migration's connection, kept off the event loop.
#pragma once

#include <memory>

#include "base/blocking.hpp"
#include "container.hpp"
#include "migration/layer.hpp"
#include "migration/link.hpp"
#include "report.hpp"

namespace lifeboat {

// At the source. What it is asked to do must have ended before it goes.
class LayerSender {
 public:
  // kRefused when the layer holds more than it may. Looks at all of it.
  static awaitable<Result<std::unique_ptr<LayerSender>>> open(const Container& container);

  [[nodiscard]] std::uint64_t files() const { return files_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

  // A pass while the container runs.
  awaitable<Status> send_running(Link& link, LayerReport& report, Milliseconds idle);
  // The pass while it is frozen, beside the dump; then, the dump being complete, what CRIU has made.
  awaitable<Status> send_frozen(Link& link, LayerReport& report, Milliseconds idle);
  awaitable<Status> send_rest(Link& link, LayerReport& report, Milliseconds idle);

 private:
  LayerSender(LayerSource source, const Cgroup& cgroup)
      : source_(std::move(source)), cgroup_(&cgroup) {}
  Status begin();
  awaitable<Status> send(Link& link, bool running, Milliseconds idle);

  LayerSource source_;
  const Cgroup* cgroup_;
  std::uint64_t files_ = 0;
  std::uint64_t bytes_ = 0;
  asio::thread_pool pool_{1};  // last: its thread ends first
};

// At the target.
class LayerReceiver {
 public:
  // kRefused when there is no room for `announced` bytes.
  static Result<std::unique_ptr<LayerReceiver>> open(const LayerDirectory& directory,
                                                     std::uint64_t announced,
                                                     std::uint64_t writable);
  // A kLayer or kLayerEnd frame.
  awaitable<Status> take(Frame frame);
  // The end of the last pass has come.
  [[nodiscard]] bool complete() const { return complete_; }
  // CRIU has restored: it made and removed files.
  awaitable<void> settle();

 private:
  explicit LayerReceiver(LayerSink sink) : sink_(std::move(sink)) {}
  LayerSink sink_;
  bool complete_ = false;
  asio::thread_pool pool_{1};
};

}  // namespace lifeboat
