// boost.cpp - what Asio and Beast have that is no template.
#include "base/asio.hpp"

#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
