package org.siglip.client;

import java.nio.file.Path;
import java.time.Duration;

/**
 * How to reach a service.
 *
 * @param address "host:port", or a target of gRPC such as "dns:///name:port"
 * @param tls encrypts, checking against the authorities of Java; a caFile implies it
 * @param caFile PEM file of the authority that signed the service, or null
 * @param token shown with every call, or null; refused in clear beyond this machine
 * @param timeout of each call, retries included
 * @param retries how often at most a call is sent again, 0 to 4
 */
public record Settings(
    String address, boolean tls, Path caFile, String token, Duration timeout, int retries) {
  /** More than gRPC does. */
  private static final int MAX_RETRIES = 4;

  public Settings {
    if (retries < 0 || retries > MAX_RETRIES) {
      throw new IllegalArgumentException(
          "retries must be between 0 and " + MAX_RETRIES + ", not " + retries);
    }
    tls = tls || caFile != null;
  }

  /** In clear, without a token. */
  public Settings(String address) {
    this(address, false, null, null, Duration.ofSeconds(30), MAX_RETRIES);
  }

  public Settings withTls() {
    return new Settings(address, true, caFile, token, timeout, retries);
  }

  public Settings withCaFile(Path caFile) {
    return new Settings(address, tls, caFile, token, timeout, retries);
  }

  public Settings withToken(String token) {
    return new Settings(address, tls, caFile, token, timeout, retries);
  }

  public Settings withTimeout(Duration timeout) {
    return new Settings(address, tls, caFile, token, timeout, retries);
  }

  public Settings withRetries(int retries) {
    return new Settings(address, tls, caFile, token, timeout, retries);
  }

  /** Never shows the token. */
  @Override
  public String toString() {
    return "Settings[" + address + (tls ? ", tls" : "") + "]";
  }
}
